import torch

from lpcompress.evaluation.twins import twin_of


def test_a_variant_shares_the_models_tensors_and_leaves_the_model_alone(tiny_model, reversing):
    model = tiny_model("bert")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    twin = twin_of(model)
    shared = {tensor.data_ptr() for tensor in model.parameters()}
    assert {tensor.data_ptr() for tensor in twin.parameters()} == shared
    reversing().prepare(twin, None, None)
    twin.config.id2label = {0: "changed"}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.config.id2label != {0: "changed"}
