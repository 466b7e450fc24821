"""Back-ends: what turns embeddings into anomaly scores. A new one is a function in a file of its own, a line here and its
knobs in backendsettings.py."""

from __future__ import annotations

from functools import partial

from auscult.scoring.banks import Backend
from auscult.scoring.density import ldn_scores
from auscult.scoring.gmm import gmm_scores
from auscult.scoring.kmeans import kmeans_scores
from auscult.scoring.knn import knn_scores
from auscult.scoring.lof import lof_scores
from auscult.scoring.mahalanobis import mahalanobis_scores
from auscult.scoring.smote import smote_scores
from auscult.scoring.transductive import transductive_scores

BACKENDS: dict[str, Backend] = {
    "knn_cosine": partial(knn_scores, metric="cosine"),
    "knn_euclidean": partial(knn_scores, metric="euclidean"),
    "knn_cosine_transductive": partial(transductive_scores, metric="cosine"),  # uses statistics of the test set
    "ldn": ldn_scores,
    "smote": smote_scores,
    "kmeans": kmeans_scores,
    "mahalanobis": mahalanobis_scores,
    "lof": lof_scores,
    "gmm": gmm_scores,
}
