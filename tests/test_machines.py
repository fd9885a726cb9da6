"""The notebooks on a simulated machine: the two that tell most. `make test-machines` runs all of them on six."""

import pytest
import torch
from machines import failures, run

from notebooks import find_sources, target


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX"), reason="is such a machine itself")
def test_notebooks_hold_where_the_processor_is_another():
    """Those of which the most cells failed where they were written for one processor alone: four of 02, three of 05."""
    cases, _ = run("sse, 1 thread", [target(source) for source in find_sources(["02", "05"])], jobs=0)
    assert len(cases) > 100 and failures(cases) == []
