from .background import background_queries
from .embedders.computing import computing_in
from .embedders.embedder import MODALITIES, Embedder, open_embedder
from .embedding import Cutting, embed_file, embed_files, embed_texts
from .faiss_store import FaissStore
from .filters import Interval, parse_conditions
from .index import IndexFacts, Match, RetrievalIndex, UnknownKeyError, update_index
from .index_rows import POOLED, SEGMENTS, make_rows, matrix, pool
from .indexing import IndexSettings, build_index
from .library import LibraryFile
from .match_picture import draw_match
from .queries import Answer, QueryPart
from .searcher import Searcher
from .sentence import sentence_transformer

__all__ = [
    "MODALITIES",
    "POOLED",
    "SEGMENTS",
    "Answer",
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
    "background_queries",
    "build_index",
    "computing_in",
    "draw_match",
    "embed_file",
    "embed_files",
    "embed_texts",
    "make_rows",
    "matrix",
    "open_embedder",
    "parse_conditions",
    "pool",
    "sentence_transformer",
    "update_index",
]
