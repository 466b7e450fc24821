"""Back-ends: what turns embeddings into anomaly scores. A new one is a function beside `knn` and a line here."""

from __future__ import annotations

from functools import partial

from auscult.scoring.knn import Backend, knn_scores
from auscult.scoring.transductive import transductive_scores

BACKENDS: dict[str, Backend] = {
    "knn_cosine": partial(knn_scores, metric="cosine"),
    "knn_euclidean": partial(knn_scores, metric="euclidean"),
    "knn_cosine_transductive": partial(transductive_scores, metric="cosine"),  # uses statistics of the test set
}
