"""A page to drop a clip into and hear what fits it: the paper's inference (§3.4) and flexible queries (§5.2, Fig. 6).

    pip install -c constraints.txt -e ".[app]"
    make demo                                               # a model, an index of tracks, and clips to try
    cmmixer index demo/seed-0/clips demo/seed-0/footage --model demo/seed-0/retrieval --modality video
    python examples/app.py --music demo/seed-0/index --footage demo/seed-0/footage --pretrained demo/seed-0/pretrained

`cmmixer page` with the same flags is the same; `--mcp` serves its functions as tools for programs, too. Nothing leaves
the machine, and of its files only the indexed ones are served. On the Hub this file is a Space's `app.py` (with
`--host 0.0.0.0`); the indexed files must lie beside it. What is not given, the page says how to make.
"""

from cmmixer_hf.page import PageSettings, serve
from cmmixer_hf.training import read_settings


def main() -> None:
    """Serve the page on this machine."""
    try:
        serve(read_settings(PageSettings))
    except ValueError as error:
        raise SystemExit(f"{error}") from error


if __name__ == "__main__":
    main()
