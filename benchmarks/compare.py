"""Tables 1 and 2 on the yardstick: every arm trained at equal compute, several seeds, with intervals.

    python benchmarks/compare.py --shard 0/2 & python benchmarks/compare.py --shard 1/2     # one process a core
    python benchmarks/render.py runs/compare                                            # tables and plot

Half of a budget goes to pre-training, half to fine-tuning; the arm "no pre-training" gets the second half alone, and
"the whole budget in fine-tuning" both. The paper has neither. A grid that was stopped goes on with the cells it lacks.
What came out here, and how long it took, is in `examples/README.md`.
"""

from experiment import ExperimentSettings, run_experiment

from cmmixer_hf.training import read_settings


def main() -> None:
    """Run the cells of a grid that have no result yet."""
    results = run_experiment(read_settings(ExperimentSettings))
    print(f"{len(results)} results; tables: python benchmarks/render.py FOLDER")


if __name__ == "__main__":
    main()
