"""How arms' back-ends, metrics, sets and conventions are called where people read them."""

from __future__ import annotations

PROJECT_TITLE = "The project's arms"
BACKENDS = {
    "native": "native score",
    "knn": "kNN",
    "knn_cosine": "kNN (cosine)",
    "knn_euclidean": "kNN (Euclidean)",
    "knn_cosine_transductive": "kNN (cosine, transductive)",
    "knn_cosine_machine": "kNN (cosine, whole type)",
    "knn_cosine_all": "kNN (cosine), machine not told",
    "knn_cosine_blind": "kNN (cosine, standardised), machine not told",
    "ldn": "kNN, local density",
    "ldn_domain": "kNN, local density by domain",
    "beam": "BEAM",
    "varmin": "VarMin",
    "memmixup": "MemMixup",
    "ldn_all": "kNN, local density, machine not told",
    "ldn_exits": "kNN, local density with cluster exits",
    "varmin_exits": "VarMin with cluster exits",
    "smote": "kNN, SMOTE",
    "kmeans": "k-means bank",
    "gmm": "GMM",
    "mahalanobis": "Mahalanobis",
    "lof": "LOF",
    "graph": "clusters of neighbours",
}
BACKEND_NOTES = {
    "knn_cosine_transductive": "not an official score: normalised with the mean and deviation of the test clips themselves",
}
METRICS = {
    "auc": "AUC",
    "pauc": "pAUC",
    "mauc": "mAUC",
    "auc_source": "AUC (source)",
    "auc_target": "AUC (target)",
    "pauc_source": "pAUC (source)",
    "pauc_target": "pAUC (target)",
    "official": "official score",
    "mean_auc_pauc": "mean of AUC and pAUC",
}
SETS = {"dev": "development set", "eval": "evaluation set", "all": "mean of both sets"}
CONVENTIONS = {"pooled": "pooled: one ROC over all units of a machine", "per_unit": "per unit, then averaged"}
COSTS = {
    "parameters": "params (M)",
    "macs_per_clip": "MACs/clip (M)",
    "train_seconds": "train (s)",
    "clips_per_second": "clips/s",
}
SIZES = ("parameters", "macs_per_clip")
"""Costs that are the same in every run, which committed tables may show."""
UNKNOWN = "\u2013"  # a dash: not measured
AGGREGATES = {"mean": "average", "hmean": "harmonic mean"}


def backend_name(backend: str) -> str:
    """Reader's name of a back-end; an unknown one is spelt out from its key, a variant of the native score says which."""
    if backend.startswith("native_"):
        return f"{BACKENDS['native']} ({backend.removeprefix('native_').replace('_', ' ')})"
    return BACKENDS.get(backend, backend.replace("_", " "))


def set_name(name: str, metric: str) -> str:
    """Reader's name of a set; of both sets together, by which mean a metric is formed."""
    return "harmonic mean of both sets" if (name, metric) == ("all", "official") else SETS.get(name, name)


def machine_name(machine: str) -> str:
    """Column heading of a machine type or an aggregate over them."""
    return AGGREGATES.get(machine, machine)
