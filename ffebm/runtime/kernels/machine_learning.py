"""Ops of ai.onnx.ml but trees: preparation of features, linear classifiers, support vector machines."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ffebm.errors import ModelError
from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.scores import labels_of, transformed, vector


def array_feature_extractor(call: Call, x: Tensor, columns: Tensor) -> Tensor:
    """The columns of `x` that are asked for; of a vector, they are one row."""
    y = x.index_select(x.ndim - 1, columns.reshape(-1).long())
    return y.reshape(1, -1) if x.ndim == 1 else y


def binarizer(call: Call, x: Tensor) -> Tensor:
    """One above the threshold, else zero."""
    return (x > call.number("threshold")).to(x.dtype)


def feature_vectorizer(call: Call, *inputs: Tensor) -> Tensor:
    """Features side by side as floats, each input cut or filled with zeros to its width."""
    widths = call.integers("inputdimensions")
    samples = [1 if x.ndim == 1 else x.shape[0] for x in inputs[:1]]
    call.check_size((*samples, sum(max(0, width) for width in widths)))
    parts = []
    for x, width in zip(inputs, widths, strict=True):
        rows = (x.reshape(1, -1) if x.ndim == 1 else x.flatten(1)).to(torch.float32)
        part = rows.new_zeros(rows.shape[0], width)
        kept = min(width, rows.shape[1])
        part[:, :kept] = rows[:, :kept]
        parts.append(part)
    return torch.cat(parts, 1)


def imputer(call: Call, x: Tensor) -> Tensor:
    """Replaces one value, which may be NaN, by a number for each feature or for all."""
    if x.is_floating_point():
        old, new = call.number("replaced_value_float"), vector(call, "imputed_value_floats").to(x.dtype)
        found = x.isnan() if old != old else x == old
    else:
        new = vector(call, "imputed_value_int64s", torch.int64).to(x.dtype)
        found = x == call.integer("replaced_value_int64")
    return torch.where(found, new, x)


def label_encoder(call: Call, x: Tensor) -> Tensor:
    """Each key becomes its value, any other number the default; NaN is a key like others."""
    keys, values, default = _mapping(call)
    sought = x.reshape(-1)
    if not len(keys):
        return torch.full_like(x, 0, dtype=values.dtype) + default
    keys = keys.to(x.dtype)
    numbers, order = torch.sort(torch.nan_to_num(keys, nan=torch.inf), stable=True)
    at = torch.searchsorted(numbers, sought).clamp(max=len(keys) - 1)
    found = (numbers[at] == sought) & ~keys[order[at]].isnan()
    y = torch.where(found, values[order[at]], default)
    if bool(keys.isnan().any()):
        y = torch.where(sought.isnan(), values[torch.nonzero(keys.isnan())[0, 0]], y)
    return y.reshape(x.shape)


def _mapping(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    """Keys, values and the default of a label encoder."""
    tensors = [call.tensors.get(f"{name}_tensor") for name in ("keys", "values", "default")]
    keys, values, default = (None if tensor is None else tensor.reshape(-1) for tensor in tensors)
    if keys is None:
        keys = vector(call, "keys_int64s", torch.int64)
        keys = keys if len(keys) else vector(call, "keys_floats")
    if values is None:
        values = vector(call, "values_int64s", torch.int64)
        values = values if len(values) else vector(call, "values_floats")
    if default is None:
        whole = not values.is_floating_point()
        number = call.integer("default_int64", -1) if whole else call.number("default_float", -0.0)
        default = torch.tensor(number, dtype=values.dtype)
    return keys, values, default.reshape(())


def normalizer(call: Call, x: Tensor) -> Tensor:
    """Each row divided by its norm, as floats; a row of zeros stays."""
    y = (x.reshape(1, -1) if x.ndim == 1 else x).to(torch.float32)
    norm = call.text("norm", "MAX")
    if norm == "MAX":
        size = y.amax(1, keepdim=True)
    else:
        size = torch.linalg.vector_norm(y, 1 if norm == "L1" else 2, 1, keepdim=True)
    return torch.where(size == 0, y, y / torch.where(size == 0, 1, size)).reshape(x.shape)


def one_hot_encoder(call: Call, x: Tensor) -> Tensor:
    """One in the place of its category; zeros for what is none, if that is allowed."""
    categories = vector(call, "cats_int64s", torch.int64)
    y = (x.long().unsqueeze(-1) == categories).to(torch.float32)
    if not call.integer("zeros", 1) and bool((y.sum(-1) == 0).any()):
        raise ModelError(f"{call.op}: a number is in no category", allowed="those of cats_int64s, as zeros=0")
    return y


# --- linear classifiers ------------------------------------------------------------------------------


def linear_classifier(call: Call, x: Tensor) -> tuple[Tensor, Tensor]:
    """Label and scores of each sample, by a linear map."""
    x = (x.reshape(1, -1) if x.ndim == 1 else x).to(torch.float32)
    weights = vector(call, "coefficients").reshape(-1, x.shape[1])
    intercepts = vector(call, "intercepts")
    scores = x @ weights.T + (intercepts if len(intercepts) else 0)
    labels, transform = labels_of(call, "classlabels_ints"), call.text("post_transform", "NONE")
    if scores.shape[1] > 1:
        return labels[scores.argmax(1)], transformed(scores, transform)
    return labels[(scores[:, 0] > 0).long()], _pair(scores[:, 0], transform, 1.0)


def _pair(score: Tensor, transform: str, total: float) -> Tensor:
    """Scores of two classes from that of the second one; they have a sum."""
    if transform == "LOGISTIC":
        return torch.stack([torch.sigmoid(-score), torch.sigmoid(score)], 1)
    if transform == "PROBIT":
        raise ModelError(
            "PROBIT of one score for two classes", allowed="scores for both, or another transform"
        )
    return torch.stack([total - score, score], 1)


# --- support vector machines -------------------------------------------------------------------------


def _similarities(call: Call, x: Tensor, others: Tensor) -> Tensor:
    """The kernel of each sample [samples, features] with each of some vectors."""
    parameters = vector(call, "kernel_params").tolist() or [0.0, 0.0, 0.0]
    gamma, offset, degree = parameters[:3]
    kind = call.text("kernel_type", "LINEAR")
    if kind == "RBF":
        return torch.exp(-gamma * (x.unsqueeze(1) - others).square().sum(-1))
    product = x @ others.T
    if kind == "POLY":
        return torch.pow(gamma * product + offset, degree)
    return torch.tanh(gamma * product + offset) if kind == "SIGMOID" else product


def svm_regressor(call: Call, x: Tensor) -> Tensor:
    """One target for each sample; of one class: whether it belongs to it, 1 or -1."""
    x = (x.reshape(1, -1) if x.ndim == 1 else x).to(torch.float32)
    coefficients, rho = vector(call, "coefficients"), vector(call, "rho")[0]
    if call.integer("n_supports"):
        supports = vector(call, "support_vectors").reshape(-1, x.shape[1])
        score = _similarities(call, x, supports) @ coefficients + rho
    else:
        score = _similarities(call, x, coefficients.reshape(1, -1))[:, 0] + rho
    if call.integer("one_class"):
        score = torch.where(score > 0, 1.0, -1.0)
    y = score.unsqueeze(1)
    transform = call.text("post_transform", "NONE")
    return transformed(y, transform) if transform == "PROBIT" else y


@dataclass(frozen=True)
class _Duels:
    """Each pair of classes against each other.

    Attributes:
        scores: [samples, pairs], above zero for the first class.
        winners: [samples] the class that wins most; the first of several.
    """

    scores: Tensor
    winners: Tensor


def _duels(call: Call, x: Tensor, counts: list[int]) -> _Duels:
    n = len(counts)
    supports = vector(call, "support_vectors").reshape(-1, x.shape[1])
    coefficients = vector(call, "coefficients").reshape(n - 1, -1)
    kernel = _similarities(call, x, supports)
    ends = torch.tensor(counts).cumsum(0).tolist()
    parts = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    rho = vector(call, "rho")
    scores: list[Tensor] = []
    votes = torch.zeros(x.shape[0], n)
    for i in range(n):
        for j in range(i + 1, n):
            score = kernel[:, parts[i]] @ coefficients[j - 1, parts[i]]
            score = score + kernel[:, parts[j]] @ coefficients[i, parts[j]] + rho[len(scores)]
            scores.append(score)
            votes[:, i] += score > 0
            votes[:, j] += score <= 0
    return _Duels(torch.stack(scores, 1), votes.argmax(1))


def svm_classifier(call: Call, x: Tensor) -> tuple[Tensor, Tensor]:
    """Label and scores of each sample, by support vectors."""
    x = (x.reshape(1, -1) if x.ndim == 1 else x).to(torch.float32)
    labels, transform = labels_of(call, "classlabels_ints"), call.text("post_transform", "NONE")
    counts = vector(call, "vectors_per_class", torch.int64).tolist()
    if not counts:
        raise ModelError(f"{call.op}: no support vectors", allowed="support vectors; or a LinearClassifier")
    duels = _duels(call, x, counts)
    slopes, offsets = vector(call, "prob_a"), vector(call, "prob_b")
    if len(slopes):
        scores = _coupled(duels.scores * slopes + offsets, len(counts))
        return labels[duels.winners], transformed(scores, transform)
    if len(counts) > 2:
        return labels[duels.winners], transformed(duels.scores, transform)
    return labels[duels.winners], _pair(duels.scores[:, 0], transform, 0.0 if transform == "NONE" else 1.0)


def _coupled(margins: Tensor, n: int) -> Tensor:
    """Probabilities of all classes from those of each pair, by the iteration of Wu, Lin and Weng (2004)."""
    against = torch.zeros(margins.shape[0], n, n)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    for position, (i, j) in enumerate(pairs):
        against[:, i, j] = (1 - torch.sigmoid(margins[:, position])).clamp(1e-7, 1 - 1e-7)
        against[:, j, i] = 1 - against[:, i, j]
    q = -against.mT * against
    diagonal = against.square().sum(1)
    q = q + torch.diag_embed(diagonal)
    p = torch.full((margins.shape[0], n), 1 / n)
    active = torch.ones(margins.shape[0], 1, dtype=torch.bool)
    for _ in range(max(100, n)):
        qp = (q @ p.unsqueeze(-1)).squeeze(-1)
        pqp = (p * qp).sum(-1, keepdim=True)
        active = active & ((qp - pqp).abs().amax(-1, keepdim=True) >= 0.005 / n)
        if not active.any():
            break
        fresh = _swept(q, p, qp, pqp)
        p = torch.where(active, fresh, p)
    return p


def _swept(q: Tensor, p: Tensor, qp: Tensor, pqp: Tensor) -> Tensor:
    """One round of the iteration, class after class."""
    for i in range(p.shape[1]):
        entry = q[:, i, i].unsqueeze(1)
        step = (pqp - qp[:, i : i + 1]) / entry
        p = p.clone()
        p[:, i : i + 1] += step
        pqp = (pqp + step * (step * entry + 2 * qp[:, i : i + 1])) / (1 + step) ** 2
        qp = (qp + step * q[:, i]) / (1 + step)
        p = p / (1 + step)
    return p


MACHINE_LEARNING: dict[str, Kernel] = {
    "ai.onnx.ml.ArrayFeatureExtractor": array_feature_extractor,
    "ai.onnx.ml.Binarizer": binarizer,
    "ai.onnx.ml.FeatureVectorizer": feature_vectorizer,
    "ai.onnx.ml.Imputer": imputer,
    "ai.onnx.ml.LabelEncoder": label_encoder,
    "ai.onnx.ml.LinearClassifier": linear_classifier,
    "ai.onnx.ml.Normalizer": normalizer,
    "ai.onnx.ml.OneHotEncoder": one_hot_encoder,
    "ai.onnx.ml.SVMClassifier": svm_classifier,
    "ai.onnx.ml.SVMRegressor": svm_regressor,
}
