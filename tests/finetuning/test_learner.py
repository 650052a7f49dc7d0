"""Training losses against formulas written out here."""

import pytest
import torch
from torch.nn import functional

from lpcompress.config.recipe import Recipe
from lpcompress.finetuning.learner import Learner, Teacher, divergence, hidden_distance


def test_the_divergence_is_that_of_the_softened_classes():
    ours, theirs = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    q, p = (ours / 3).softmax(-1), (theirs / 3).softmax(-1)
    expected = 9 * (p * (p.log() - q.log())).sum(-1).mean()
    torch.testing.assert_close(divergence(ours, theirs, 3.0), expected)
    assert divergence(ours, ours, 3.0).abs() < 1e-12
    torch.testing.assert_close(divergence(ours[:, :1], theirs[:, :1], 3.0), (ours - theirs)[:, 0].square().mean())


def test_hidden_states_are_compared_where_there_are_tokens():
    theirs = [torch.ones(2, 3, 4), 2 * torch.ones(2, 3, 4)]
    ours = [theirs[0].clone(), 3 * torch.ones(2, 3, 4)]
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    ours[0][mask == 0] = 99.0  # padding
    assert hidden_distance(ours, theirs, mask).item() == pytest.approx((0 + 1 / 4) / 2)


@pytest.mark.parametrize("teacher", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow_the_distance(teacher):
    mask = torch.ones(32, 40)
    ours, theirs = (torch.randn(32, 40, 384, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    plain = hidden_distance([ours], [theirs], mask)
    assert hidden_distance([ours], [theirs.to(teacher)], mask) == pytest.approx(float(plain), rel=1e-2)


def test_the_loss_is_the_mixture_set_by_the_recipe(tiny_model, ids):
    model, other = tiny_model("bert", num_labels=3), tiny_model("bert", num_labels=3)
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(2)) * 0.1)
    features, labels = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, torch.tensor([2, 0])
    recipe = Recipe(soft=0.25, temperature=1.5, hidden=0.5)
    with torch.no_grad():
        ours, theirs = model(**features), other(**features, output_hidden_states=True)
        plain = Learner(model, recipe)(labels, **features)["loss"]
        torch.testing.assert_close(plain, functional.cross_entropy(ours.logits, labels))
        loss = Learner(model, recipe, Teacher(other, [2, 1, 0]))(labels, **features)["loss"]
        ours = model(**features, output_hidden_states=True)
    soft = divergence(ours.logits, theirs.logits[:, [2, 1, 0]], 1.5)
    hidden = hidden_distance(ours.hidden_states, theirs.hidden_states, features["attention_mask"])
    torch.testing.assert_close(loss, 0.75 * plain + 0.25 * soft + 0.5 * hidden)


def test_a_teacher_of_other_sizes_is_followed_in_its_logits_only(tiny_model, ids):
    student, teacher = tiny_model("distilbert"), tiny_model("bert")
    learner = Learner(student, Recipe(), Teacher(teacher, [0, 1]))
    assert not learner.follows_hidden
    features = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    assert torch.isfinite(learner(torch.tensor([0, 1]), **features)["loss"])
    assert not any(name.startswith("teacher") for name in learner.state_dict())
