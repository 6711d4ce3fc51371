"""What a linear map finds of one modality in the other."""

import numpy as np


def probe(left: np.ndarray, right: np.ndarray, train: np.ndarray, k: int = 10) -> np.ndarray:
    """Hits@k of a ridge CCA, fitted on `train` (clips,) bool, among the other clips: (2 directions, others) bool."""
    scaled = [(x - x[train].mean(0)) / (x[train].std(0) + 1e-9 * np.abs(x).max(0) + 1e-12) for x in (left, right)]
    whiten = [np.linalg.inv(np.linalg.cholesky(np.cov(x[train].T) + 0.1 * np.eye(x.shape[1]))).T for x in scaled]
    white = [x @ w for x, w in zip(scaled, whiten, strict=True)]
    u, s, vt = np.linalg.svd(white[0][train].T @ white[1][train] / train.sum(), full_matrices=False)
    a, b = (x[~train] @ basis * s for x, basis in zip(white, (u, vt.T), strict=True))
    distance = ((a[:, None] - b[None]) ** 2).sum(-1)
    own = np.diag(distance)
    return np.stack([(distance < own[:, None]).sum(1) < k, (distance < own[None]).sum(0) < k])


def held_out_hits(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Every clip is held out once: (2 directions, clips) bool. The pool is one half of the clips."""
    even = np.arange(len(left)) % 2 == 0
    return np.concatenate([probe(left, right, even), probe(left, right, ~even)], axis=1)
