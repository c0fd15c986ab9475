"""Ensembles of decision trees."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ffebm.errors import ModelError
from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.scores import labels_of, transformed, vector

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
LEAF = len(MODES)
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


@dataclass(frozen=True)
class Trees:
    """All trees, their nodes in one row.

    Attributes:
        roots: [trees] positions.
        modes: [nodes] positions in `MODES`, or `LEAF`.
        features: [nodes] columns.
        thresholds: [nodes].
        children: [2, nodes] positions, where a condition is false and where it is true.
        missing: [nodes] whether a missing value makes the condition true.
        weights: [nodes, targets], of the leaves.
        given: [nodes, targets] whether there is a weight.
        members: [nodes, values] of which one makes a membership true; NaN behind the last one.
    """

    roots: Tensor
    modes: Tensor
    features: Tensor
    thresholds: Tensor
    children: Tensor
    missing: Tensor
    weights: Tensor
    given: Tensor
    members: Tensor | None = None

    def leaves(self, x: Tensor) -> Tensor:
        """The leaf of each tree that each sample [samples, features] comes to, [samples, trees]."""
        at = self.roots.expand(x.shape[0], -1)
        for _ in range(len(self.modes)):
            inner = self.modes[at] != LEAF
            if not inner.any():
                break
            value = x.gather(1, self.features[at])
            taken = self._holds(at, value) | (value.isnan() & self.missing[at])
            at = torch.where(inner, self.children[taken.long(), at], at)
        return at

    def _holds(self, at: Tensor, value: Tensor) -> Tensor:
        """Whether the condition of each node holds."""
        threshold, mode = self.thresholds[at], self.modes[at]
        found = torch.zeros_like(value, dtype=torch.bool)
        tests = (torch.le, torch.lt, torch.ge, torch.gt, torch.eq, torch.ne)
        for code, test in enumerate(tests):
            found = torch.where(mode == code, test(value, threshold), found)
        if self.members is not None:
            inside = (self.members[at] == value.unsqueeze(-1)).any(-1)
            found = torch.where(mode == MODES.index("BRANCH_MEMBER"), inside, found)
        return found

    def scores(self, x: Tensor, aggregate: str) -> tuple[Tensor, Tensor]:
        """Scores of each sample [samples, targets], and whether a tree has given one."""
        leaves = self.leaves(x)
        shape = (x.shape[0], self.weights.shape[1])
        total = torch.zeros(shape, dtype=self.weights.dtype, device=x.device)
        seen = torch.zeros(shape, dtype=torch.bool, device=x.device)
        pick = {"MIN": torch.minimum, "MAX": torch.maximum}.get(aggregate, torch.add)
        for leaf in leaves.T:  # one after the other, for the rounding of onnxruntime
            weight, given = self.weights[leaf], self.given[leaf]
            total = torch.where(given, torch.where(seen, pick(total, weight), weight), total)
            seen = seen | given
        return total / len(self.roots) if aggregate == "AVERAGE" else total, seen


def tree_ensemble_classifier(call: Call, x: Tensor) -> tuple[Tensor, Tensor]:
    """Label and scores of each sample."""
    labels = labels_of(call, "classlabels_int64s")
    x = _computed(x)
    trees = _trees(call, x, "class", len(labels))
    scores, seen = trees.scores(x, "SUM")
    base = _numbers(call, "base_values", scores.dtype)
    transform = call.text("post_transform", "NONE")
    if len(labels) > 2:
        scores = scores + base if len(base) else scores
        known = seen | (len(base) > 0)
        best = torch.where(known, scores, -torch.inf).argmax(1)
        return labels[best], transformed(scores, transform).to(torch.float32)
    one = len(set(vector(call, "class_ids", torch.int64).tolist())) == 1
    return _of_two(scores, seen, base, labels, _Binary(one, bool((trees.weights >= 0).all()), transform))


@dataclass(frozen=True)
class _Binary:
    """How two classes share their scores.

    Attributes:
        one: All weights belong to one class.
        positive: No weight is negative.
        transform: What happens to the scores.
    """

    one: bool
    positive: bool
    transform: str


def _of_two(
    scores: Tensor, seen: Tensor, base: Tensor, labels: Tensor, how: _Binary
) -> tuple[Tensor, Tensor]:
    """Label and scores of two classes, where one may have none of its own."""
    first, second, both = scores[:, 0], scores[:, 1], seen[:, 1]
    if len(base) == 2:  # onnxruntime takes the first class's score for the second one
        moved = base[1] + first
        first = torch.where(both, -moved, first + base[0])
        second = torch.where(both, moved, torch.zeros_like(second))
    elif len(base) == 1:
        first = first + base[0]
    first = torch.where(seen[:, 0], first, torch.zeros_like(first))
    alone = torch.where(both, second, first) > (0.5 if how.positive else 0.0)
    wins = alone if how.one else second > first
    two = both | (len(base) == 2)
    if how.transform == "PROBIT" and not bool(two.all()):
        raise ModelError(
            "PROBIT of one score for two classes", allowed="scores for both, or another transform"
        )
    pair = transformed(torch.stack([first, second], 1), how.transform)
    return labels[wins.long()], torch.where(two.unsqueeze(1), pair, _completed(first, how)).to(torch.float32)


def _completed(score: Tensor, how: _Binary) -> Tensor:
    """Two scores from that of one class."""
    if how.transform == "LOGISTIC":
        return torch.stack([torch.sigmoid(-score), torch.sigmoid(score)], 1)
    return torch.stack([1 - score if how.one and how.positive else -score, score], 1)


def tree_ensemble_regressor(call: Call, x: Tensor) -> Tensor:
    """Targets of each sample."""
    x = _computed(x)
    trees = _trees(call, x, "target", call.integer("n_targets", 1))
    scores, _ = trees.scores(x, call.text("aggregate_function", "SUM"))
    base = _numbers(call, "base_values", scores.dtype)
    scores = scores + base if len(base) else scores
    return _regressed(scores, call.text("post_transform", "NONE")).to(torch.float32)


def _regressed(scores: Tensor, transform: str) -> Tensor:
    """Of a single target, onnxruntime transforms by the normal distribution alone."""
    return scores if scores.shape[1] == 1 and transform != "PROBIT" else transformed(scores, transform)


def _computed(x: Tensor) -> Tensor:
    """Samples in rows, in the type that onnxruntime compares them in."""
    x = x.reshape(1, -1) if x.ndim == 1 else x
    return x if x.dtype == torch.float64 else x.to(torch.float32)


def _numbers(call: Call, name: str, dtype: torch.dtype) -> Tensor:
    """Numbers as a list or as a tensor."""
    tensor = call.tensors.get(f"{name}_as_tensor")
    return vector(call, name).to(dtype) if tensor is None else tensor.to(dtype).reshape(-1)


def _trees(call: Call, x: Tensor, kind: str, targets: int) -> Trees:
    """Trees whose nodes are named by tree and number.

    Args:
        call: Has the attributes.
        x: Samples.
        kind: "class" or "target".
        targets: How many there are.
    """
    tree, number = (vector(call, f"nodes_{name}", torch.int64) for name in ("treeids", "nodeids"))
    width = int(number.max()) + 1
    keys, order = torch.sort(tree * width + number, stable=True)

    def position(trees: Tensor, numbers: Tensor) -> Tensor:
        return order[torch.searchsorted(keys, trees * width + numbers).clamp(max=len(keys) - 1)]

    modes = torch.tensor([_mode(name) for name in call.texts("nodes_modes")])
    children = [
        position(tree, vector(call, f"nodes_{side}nodeids", torch.int64)) for side in ("false", "true")
    ]
    inner = modes != LEAF
    named = torch.zeros(len(modes), dtype=torch.bool)
    for child in children:
        named[child[inner]] = True
    leaf = position(
        vector(call, f"{kind}_treeids", torch.int64), vector(call, f"{kind}_nodeids", torch.int64)
    )
    target = vector(call, f"{kind}_ids", torch.int64)
    weights = torch.zeros(len(modes), targets, dtype=x.dtype)
    values = _numbers(call, f"{kind}_weights", x.dtype)
    weights.index_put_((leaf, target), values, accumulate=True)
    given = torch.zeros(len(modes), targets, dtype=torch.bool)
    given[leaf, target] = True
    missing = vector(call, "nodes_missing_value_tracks_true", torch.int64) != 0
    return Trees(
        roots=torch.nonzero(~named).reshape(-1),
        modes=modes,
        features=vector(call, "nodes_featureids", torch.int64),
        thresholds=_numbers(call, "nodes_values", x.dtype),
        children=torch.stack(children),
        missing=missing if len(missing) else torch.zeros(len(modes), dtype=torch.bool),
        weights=weights,
        given=given,
    )


def _mode(name: str) -> int:
    return MODES.index(name) if name in MODES else LEAF


def tree_ensemble(call: Call, x: Tensor) -> Tensor:
    """Targets of each sample; inner nodes and leaves are apart, and conditions may be memberships."""
    dtype, x = x.dtype, _computed(x)
    splits = call.tensors["nodes_splits"].to(x.dtype)
    n_inner = len(splits)
    ids = vector(call, "leaf_targetids", torch.int64)
    leaves, targets = torch.arange(len(ids)), call.integer("n_targets", 1)
    sides = []
    for side in ("false", "true"):
        child = vector(call, f"nodes_{side}nodeids", torch.int64)
        leaf = vector(call, f"nodes_{side}leafs", torch.int64) != 0
        sides.append(torch.cat([torch.where(leaf, child + n_inner, child), leaves + n_inner]))
    weights = torch.zeros(n_inner + len(ids), targets, dtype=x.dtype)
    weights[leaves + n_inner, ids] = call.tensors["leaf_weights"].to(x.dtype).reshape(-1)
    given = torch.zeros(weights.shape, dtype=torch.bool)
    given[leaves + n_inner, ids] = True
    tracked = vector(call, "nodes_missing_value_tracks_true", torch.int64) != 0
    missing = torch.zeros(len(weights), dtype=torch.bool)
    missing[: len(tracked)] = tracked
    padding = torch.zeros(len(ids), dtype=torch.int64)
    codes = torch.cat([call.tensors["nodes_modes"].long(), padding + LEAF])
    features = torch.cat([vector(call, "nodes_featureids", torch.int64), padding])
    trees = Trees(
        roots=vector(call, "tree_roots", torch.int64),
        modes=codes,
        features=features,
        thresholds=torch.cat([splits, torch.zeros(len(ids), dtype=x.dtype)]),
        children=torch.stack(sides),
        missing=missing,
        weights=weights,
        given=given,
        members=_members(call, codes, x.dtype),
    )
    scores, _ = trees.scores(x, AGGREGATES[call.integer("aggregate_function", 1)])
    return _regressed(scores, TRANSFORMS[call.integer("post_transform")]).to(dtype)


def _members(call: Call, codes: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The values of each membership, which stand in one row with NaN behind each."""
    if "membership_values" not in call.tensors:
        return None
    row = call.tensors["membership_values"].to(dtype).reshape(-1)
    rest = row.tolist()
    groups: list[list[float]] = [[]]
    for value in rest:
        if value != value:
            groups.append([])
        else:
            groups[-1].append(value)
    size = max(map(len, groups))
    table = torch.full((len(codes), size), torch.nan, dtype=dtype)
    for node, group in zip(
        torch.nonzero(codes == MODES.index("BRANCH_MEMBER")).reshape(-1), groups, strict=False
    ):
        table[node, : len(group)] = torch.tensor(group, dtype=dtype)
    return table


TREES: dict[str, Kernel] = {
    "ai.onnx.ml.TreeEnsemble": tree_ensemble,
    "ai.onnx.ml.TreeEnsembleClassifier": tree_ensemble_classifier,
    "ai.onnx.ml.TreeEnsembleRegressor": tree_ensemble_regressor,
}
