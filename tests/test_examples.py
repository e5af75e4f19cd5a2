"""Every example in a docstring of the library gives the output that it shows."""

import doctest

import pytest

import erf


@pytest.mark.parametrize("name", ["measure", "theoretical_rf", "ReceptiveField", "overlap", "Monitor", "compare"])
def test_an_example_gives_the_output_that_it_shows(name):
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(erf, name), name, globs={})
    assert len(example.examples) > 2
    report = []
    doctest.DocTestRunner().run(example, out=report.append)
    assert not report, "".join(report)
