import pytest
import torch

from cmmixer_hf.data.prepared_clips import SourceError
from cmmixer_hf.search.embedders.computing import computing_in
from cmmixer_hf.search.embedders.embedder import open_embedder
from cmmixer_hf.search.embedding import Cutting, embed_files
from cmmixer_hf.search.library import LibraryFile


def embed(folder, files, compute) -> torch.Tensor:
    embedder = open_embedder(folder, "cpu")
    identity = embedder.identity
    with computing_in(embedder, compute):
        done = list(embed_files([LibraryFile(str(path)) for path in files], embedder, Cutting()))
    assert embedder.identity == identity
    return torch.stack([file.embeds[0] for file in done])


@pytest.mark.parametrize("compute", ["bfloat16", "int8"])
def test_fewer_bits_move_embeddings_a_little(compute, retriever_folder, clip_files):
    exact, coarse = (embed(retriever_folder, clip_files[:3], name) for name in ("float32", compute))
    assert exact.dtype == coarse.dtype == torch.float32
    cosines = (exact * coarse).sum(-1)
    assert cosines.min() > 0.99
    assert not torch.equal(exact, coarse)


def test_whole_numbers_are_for_cpus():
    class Somewhere:
        model = torch.nn.Linear(2, 2)

    Somewhere.model.device = torch.device("meta")
    with pytest.raises(SourceError, match="int8 computes on a CPU, this model is on meta: take bfloat16"):
        computing_in(Somewhere(), "int8").__enter__()
