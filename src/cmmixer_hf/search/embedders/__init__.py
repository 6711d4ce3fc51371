"""Any audio-visual model as an `Embedder`: media and words in, vectors of one space out."""
