"""The benchmark of the data path runs, and its tables are the ones that are written down."""

import re
import runpy
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_benchmark_measures_every_line_of_the_written_tables(clip_files):
    benchmark = runpy.run_path(str(BENCHMARKS / "data.py"))
    settings = benchmark["DataSettings"](clips=str(clip_files[0].parent), rounds=1, sound_seconds=40)
    report = benchmark["report"](settings)
    rows = [line.split(" | ") for line in report.splitlines() if line.startswith("| ")]
    assert all(float(row[1]) > 0 for row in rows if re.match(r"[\d.]+$", row[1]))
    assert report.startswith("6 clips of 3.0 s")
    written = (BENCHMARKS / "README.md").read_text().splitlines()
    assert not [row[0] for row in rows if not any(line.startswith(f"{row[0]} | ") for line in written)]
