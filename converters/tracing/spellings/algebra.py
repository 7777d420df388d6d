"""Distances and linear algebra of small matrices, which ONNX has no operators for, in words that it has."""

# torch names these arguments A and B
# ruff: noqa: N803, N806

from __future__ import annotations

from typing import Any

import torch

LARGEST = 16
"""Rows of the largest matrix that is solved: each takes a dozen nodes."""


def cdist(x1: torch.Tensor, x2: torch.Tensor, p: float = 2.0, compute_mode: Any = None) -> Any:
    """All distances between two sets of points; of many by a product of matrices, as torch does it."""
    sizes = (x1.shape[-2], x2.shape[-2])
    is_large = any(isinstance(size, int) and size > 25 for size in sizes)
    if p == 2 and is_large and compute_mode not in ("donot_use_mm_for_euclid_dist", 2):
        squares = (x1 * x1).sum(-1).unsqueeze(-1) + (x2 * x2).sum(-1).unsqueeze(-2)
        return (squares - 2 * (x1 @ x2.mT)).clamp(min=0).sqrt()
    apart = (x1.unsqueeze(-2) - x2.unsqueeze(-3)).abs()
    if p == 0:
        return (apart != 0).sum(-1).to(x1.dtype)
    if p == float("inf"):
        return apart.amax(-1)
    if p == 1:
        return apart.sum(-1)
    return (apart * apart).sum(-1).sqrt() if p == 2 else apart.pow(p).sum(-1).pow(1 / p)


def solved(matrix: torch.Tensor, right: torch.Tensor | None) -> tuple[Any, Any, Any]:
    """Gauss and Jordan with the largest pivot of each column: the solution, the pivots (..., N), and the sign of the exchanges."""
    size = matrix.shape[-1]
    if not isinstance(size, int) or size > LARGEST or matrix.is_complex():
        return NotImplemented, None, None
    rows = torch.arange(size)
    work = matrix
    if right is not None:
        batch = torch.broadcast_shapes(matrix.shape[:-2], right.shape[:-2])  # type: ignore[no-untyped-call]
        work = torch.cat([matrix.expand(*batch, size, size), right.expand(*batch, *right.shape[-2:])], -1)
    pivots, sign = [], torch.ones_like(work[..., 0, 0])
    for k in range(size):
        column = work[..., k].abs() if k == 0 else torch.where(rows >= k, work[..., k].abs(), -1.0)
        best = column.argmax(-1, keepdim=True)
        chosen = (rows == best).unsqueeze(-1)
        first = work[..., k : k + 1, :]
        pivot_row = torch.where(chosen, work, 0.0).sum(-2, keepdim=True)
        work = torch.where(chosen, first, work)
        pivot = pivot_row[..., k : k + 1]
        row = pivot_row / (pivot if right is not None else torch.where(pivot == 0, 1.0, pivot))
        factor = work[..., k : k + 1]
        work = torch.where((rows == k).unsqueeze(-1), row, work - factor * row)
        pivots.append(pivot.reshape(pivot.shape[:-2]))
        sign = torch.where(best.squeeze(-1) == k, sign, -sign)
    return work[..., size:], torch.stack(pivots, -1), sign


def inv(A: torch.Tensor) -> Any:
    return solved(A, torch.eye(A.shape[-1], dtype=A.dtype))[0] if isinstance(A.shape[-1], int) else NotImplemented


def solve(A: torch.Tensor, B: torch.Tensor, *, left: bool = True) -> Any:
    """A X = B, or X A = B; a B of one axis less is one right side for each matrix."""
    is_vector = B.dim() == 1 or (B.dim() == A.dim() - 1 and list(B.shape) == list(A.shape[:-1]))
    right = B.unsqueeze(-1) if is_vector else B
    answer = solved(A if left else A.mT, right if left else right.mT)[0]
    if answer is NotImplemented:
        return answer
    answer = answer if left else answer.mT
    return answer.squeeze(-1) if is_vector else answer


def det(A: torch.Tensor) -> Any:
    _, pivots, sign = solved(A, None)
    return NotImplemented if pivots is None else pivots.prod(-1) * sign


def slogdet(A: torch.Tensor) -> Any:
    _, pivots, sign = solved(A, None)
    if pivots is None:
        return NotImplemented
    signs = sign * pivots.sign().prod(-1)
    return torch.return_types.slogdet((signs, pivots.abs().log().sum(-1)))


def logdet(A: torch.Tensor) -> Any:
    found = slogdet(A)
    return found if found is NotImplemented else torch.where(found[0] < 0, float("nan"), found[1])


def cholesky(A: torch.Tensor, *, upper: bool = False) -> Any:
    """Column by column."""
    size = A.shape[-1]
    if not isinstance(size, int) or size > LARGEST or A.is_complex():
        return NotImplemented
    rows, columns = torch.arange(size), []
    for k in range(size):
        column = A[..., k] / A[..., k, k].sqrt().unsqueeze(-1)
        column = column if k == 0 else torch.where(rows >= k, column, 0.0)
        columns.append(column)
        A = A - column.unsqueeze(-1) * column.unsqueeze(-2)
    return torch.stack(columns, -2 if upper else -1)


def old_cholesky(A: torch.Tensor, upper: bool = False) -> Any:
    return cholesky(A, upper=upper)


def solve_triangular(A: torch.Tensor, B: torch.Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    """As any other, of the half that is meant."""
    if not isinstance(A.shape[-1], int):
        return NotImplemented
    half = A.triu() if upper else A.tril()
    if unitriangular:
        half = torch.where(torch.eye(A.shape[-1]) > 0, 1.0, half)
    answer = solved(half if left else half.mT, B if left else B.mT)[0]
    return answer if left or answer is NotImplemented else answer.mT


def cholesky_solve(B: torch.Tensor, L: torch.Tensor, upper: bool = False) -> Any:
    return solved(L.mT @ L if upper else L @ L.mT, B)[0]


def cholesky_inverse(L: torch.Tensor, upper: bool = False) -> Any:
    return inv(L.mT @ L if upper else L @ L.mT)


def gaussian_nll_loss(input: torch.Tensor, target: torch.Tensor, var: Any, full: bool = False, eps: float = 1e-6,
                      reduction: str = "mean") -> Any:  # fmt: skip
    """Without a look at the variances for one below zero."""
    if not isinstance(var, torch.Tensor):
        var = torch.full_like(input, var)
    if var.dim() == input.dim() - 1:
        var = var.unsqueeze(-1)
    var = var.clamp(min=eps)
    loss = 0.5 * (var.log() + (input - target) ** 2 / var)
    loss = loss + 0.9189385332046727 if full else loss  # half the logarithm of 2 pi
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


SPELLINGS: dict[str, Any] = {
    "cdist": cdist,
    **dict.fromkeys(["linalg_inv", "inverse"], inv),
    "linalg_solve": solve,
    **dict.fromkeys(["linalg_det", "det"], det),
    **dict.fromkeys(["linalg_slogdet", "slogdet"], slogdet),
    "logdet": logdet,
    "linalg_cholesky": cholesky,
    "cholesky": old_cholesky,
    "linalg_solve_triangular": solve_triangular,
    "cholesky_solve": cholesky_solve,
    "cholesky_inverse": cholesky_inverse,
    "gaussian_nll_loss": gaussian_nll_loss,
}
"""What stands for torch's functions of these names while a module is exported."""
