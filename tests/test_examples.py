"""Every example in a docstring of the library gives the output that it shows."""

import doctest
from operator import attrgetter

import pytest

import erf

EXAMPLES = [
    *("measure", "theoretical_rf", "ReceptiveField", "ReceptiveField.with_spacing"),
    *("by_convention", "perturbed", "overlap", "Monitor", "compare", "profile"),
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_the_output_that_it_shows(name):
    (example,) = doctest.DocTestFinder(recurse=False).find(attrgetter(name)(erf), name, globs={})
    assert len(example.examples) > 2
    report = []
    doctest.DocTestRunner().run(example, out=report.append)
    assert not report, "".join(report)
