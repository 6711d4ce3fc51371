"""Which models are opened by their name, and what is refused."""

import json

import pytest

from cmmixer_hf.data.prepared_clips import SourceError
from cmmixer_hf.search.embedders.embedder import open_embedder


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(SourceError, match=r"\./no/such/model is neither"):
        open_embedder("./no/such/model")


def test_a_model_that_embeds_no_media_is_refused_with_what_would_do(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "model_type": "bert"}))
    with pytest.raises(SourceError, match="is a BertModel, which embeds neither sound nor pictures here: give a retr"):
        open_embedder(tmp_path)
