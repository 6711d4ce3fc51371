from .embedding import MODALITIES, Cutting, Embedder, embed_files
from .faiss_store import FaissStore
from .filters import Interval, parse_conditions
from .index import IndexFacts, Match, RetrievalIndex, UnknownKeyError, update_index
from .index_rows import POOLED, SEGMENTS, make_rows, matrix, pool
from .indexing import IndexSettings, build_index
from .library import LibraryFile
from .match_picture import draw_match
from .searcher import QueryPart, Searcher
from .sentence import sentence_transformer

__all__ = [
    "MODALITIES",
    "POOLED",
    "SEGMENTS",
    "Cutting",
    "Embedder",
    "FaissStore",
    "IndexFacts",
    "IndexSettings",
    "Interval",
    "LibraryFile",
    "Match",
    "QueryPart",
    "RetrievalIndex",
    "Searcher",
    "UnknownKeyError",
    "build_index",
    "draw_match",
    "embed_files",
    "make_rows",
    "matrix",
    "parse_conditions",
    "pool",
    "sentence_transformer",
    "update_index",
]
