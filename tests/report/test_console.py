"""Lines of text on the results of a run."""

import numpy as np
import pytest
from report_fixtures import make_metrics
from report_scores import Test

from langid_fastai.evaluation.breakdowns import count_answers
from langid_fastai.report.console import result_lines


def lines_of(confusion, vocab=("de", "en", "es")):
    """Result lines of a test with this confusion matrix; rates are those of another."""
    metrics = make_metrics(Test(tuple(vocab)))
    metrics["test"]["answers"] = count_answers(np.array(confusion), list(vocab))
    return "\n".join(result_lines(metrics))


def test_the_accuracy_is_next_to_that_of_the_largest_class():
    text = lines_of([[30, 5, 5], [2, 8, 0], [0, 0, 10]])
    [line] = [line for line in text.splitlines() if line.startswith("test ") and "record" in line]
    assert "(always answering de: 0.6667) of " in line
    assert "balanced accuracy 0." in text
    assert "NOT READY" not in text


@pytest.mark.parametrize(
    ("confusion", "vocab"),
    [
        ([[60, 0], [4, 0]], ("de", "es")),
        ([[40, 0, 0], [9, 0, 0], [1, 0, 0]], ("de", "en", "es")),
        ([[0, 3, 0], [0, 40, 0], [0, 0, 0]], ("en", "de", "es")),  # one is not in the test
    ],
)
def test_a_model_with_one_answer_is_reported_before_its_accuracy(confusion, vocab):
    text = lines_of(confusion, vocab)
    assert text.startswith("NOT READY: the model always answers de; ")
