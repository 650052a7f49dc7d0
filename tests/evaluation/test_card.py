from huggingface_hub import ModelCard

from lpcompress.evaluation import card


def test_the_model_index_names_split_and_metric(make, result, results):
    found = card.eval_results(make(results))
    rows = [(each.dataset_config, each.dataset_split, each.metric_type, each.metric_value) for each in found]
    assert rows == [
        ("mrpc", "validation", "accuracy", 76.0),
        ("mrpc", "validation", "f1", 84.0),
        ("mnli", "validation_matched", "accuracy", 83.0),
        ("mnli", "validation_mismatched", "accuracy", 84.0),
        ("wnli", "validation", "accuracy", 56.34),
    ]
    assert {each.dataset_type for each in found} == {"nyu-mll/glue"}
    assert found[0].metric_name == "accuracy (points, 0 to 100, without fine-tuning)"
    assert "only the first 20 rows" in card.eval_results(make(results, limit=20))[0].metric_name
    [cola] = card.eval_results(make({"cola": result(50.0, 51.0, {"matthews": 50.0})}))
    assert cola.metric_type == "matthews_correlation"


def test_the_card_gets_the_scores(make, results):
    text = "---\ntags:\n- lpcompress\n---\n\n# Title\n"
    found = ModelCard(card.with_scores(text, make({"mrpc": results["mrpc"]}), "small"))
    assert found.data.tags == ["lpcompress"]
    assert [each.metric_value for each in found.data.eval_results] == [76.0, 84.0]
    assert "# Title" in found.text
    assert "| mrpc | 408 | accuracy + f1 | 81.00 | 80.00 | 1.00 ± 0.12 |" in found.text
