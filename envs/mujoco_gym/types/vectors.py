"""Vectors, rotations and poses of `isaacgym.gymapi`; quaternions are xyzw."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from torch import Tensor

__all__ = ["Mat33", "Quat", "Scalar", "Transform", "Vec3", "to_float"]

Scalar: TypeAlias = float | np.ndarray | Tensor
"""A number, or an array or tensor of one element, as legged_gym hands them over."""


def to_float(value: Scalar) -> float:
    """Plain float of a scalar."""
    return float(value.item() if isinstance(value, (np.ndarray, Tensor)) else value)


class Vec3:
    """Three floats. Components may be given as numpy or torch numbers, or arrays of one element."""

    __slots__ = ("_values",)

    def __init__(self, x: Scalar = 0.0, y: Scalar = 0.0, z: Scalar = 0.0) -> None:
        self._values = [to_float(x), to_float(y), to_float(z)]

    def _get(self, index: int) -> float:
        return self._values[index]

    def _set(self, index: int, value: Scalar) -> None:
        self._values[index] = to_float(value)

    x = property(lambda self: self._get(0), lambda self, value: self._set(0, value))
    y = property(lambda self: self._get(1), lambda self, value: self._set(1, value))
    z = property(lambda self: self._get(2), lambda self, value: self._set(2, value))

    def __iter__(self) -> Iterator[float]:
        return iter(self._values)

    def __add__(self, other: Vec3) -> Vec3:
        return Vec3(*(a + b for a, b in zip(self, other, strict=True)))

    def __sub__(self, other: Vec3) -> Vec3:
        return Vec3(*(a - b for a, b in zip(self, other, strict=True)))

    def __mul__(self, factor: float) -> Vec3:
        return Vec3(*(a * factor for a in self))

    def __truediv__(self, divisor: float) -> Vec3:
        return Vec3(*(a / divisor for a in self))

    def __neg__(self) -> Vec3:
        return self * -1.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vec3) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Vec3({self.x}, {self.y}, {self.z})"

    def dot(self, other: Vec3) -> float:
        """Scalar product."""
        return sum(a * b for a, b in zip(self, other, strict=True))

    def cross(self, other: Vec3) -> Vec3:
        """Vector product."""
        return Vec3(*np.cross(list(self), list(other)))

    def length_sq(self) -> float:
        """Squared length."""
        return self.dot(self)

    def length(self) -> float:
        """Length."""
        return math.sqrt(self.length_sq())

    def normalize(self) -> Vec3:
        """Vector of length 1 in this direction."""
        return self / self.length()


@dataclass(slots=True)
class Quat:
    """Rotation quaternion, xyzw."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    w: float = 1.0

    def __post_init__(self) -> None:
        self.x, self.y, self.z, self.w = (to_float(value) for value in (self.x, self.y, self.z, self.w))

    @staticmethod
    def from_axis_angle(axis: Vec3, angle: float) -> Quat:
        """Turn by an angle [rad] about a unit axis."""
        half = 0.5 * to_float(angle)
        x, y, z = axis * math.sin(half)
        return Quat(x, y, z, math.cos(half))

    @staticmethod
    def from_euler_zyx(roll: float, pitch: float, yaw: float) -> Quat:
        """Turn about x by roll, then y by pitch, then z by yaw, all about fixed axes [rad]."""
        about_x = Quat.from_axis_angle(Vec3(1.0, 0.0, 0.0), roll)
        about_y = Quat.from_axis_angle(Vec3(0.0, 1.0, 0.0), pitch)
        about_z = Quat.from_axis_angle(Vec3(0.0, 0.0, 1.0), yaw)
        return about_z * about_y * about_x

    def __mul__(self, other: Quat) -> Quat:
        a, b = Vec3(self.x, self.y, self.z), Vec3(other.x, other.y, other.z)
        x, y, z = b * self.w + a * other.w + a.cross(b)
        return Quat(x, y, z, self.w * other.w - a.dot(b))

    def inverse(self) -> Quat:
        """Opposite rotation of a unit quaternion."""
        return Quat(-self.x, -self.y, -self.z, self.w)

    def normalize(self) -> Quat:
        """Quaternion of length 1 for this rotation."""
        length = math.sqrt(self.x**2 + self.y**2 + self.z**2 + self.w**2)
        return Quat(self.x / length, self.y / length, self.z / length, self.w / length)

    def rotate(self, vector: Vec3) -> Vec3:
        """Vector after this rotation."""
        axis = Vec3(self.x, self.y, self.z)
        twice = axis.cross(vector) * 2.0
        return vector + twice * self.w + axis.cross(twice)


class Transform:
    """Position `p` and rotation `r`; `r=None` means no rotation."""

    __slots__ = ("p", "r")

    def __init__(self, p: Vec3 | None = None, r: Quat | None = None) -> None:
        self.p = Vec3() if p is None else p
        self.r = Quat() if r is None else r

    def __repr__(self) -> str:
        return f"Transform({self.p}, {self.r})"

    def __mul__(self, other: Transform) -> Transform:
        return Transform(self.transform_point(other.p), self.r * other.r)

    def transform_point(self, point: Vec3) -> Vec3:
        """Point after this transform."""
        return self.r.rotate(point) + self.p

    def transform_vector(self, vector: Vec3) -> Vec3:
        """Direction after this transform."""
        return self.r.rotate(vector)

    def inverse(self) -> Transform:
        """Transform that undoes this one."""
        rotation = self.r.inverse()
        return Transform(-rotation.rotate(self.p), rotation)


class Mat33:
    """Symmetric 3x3 matrix by its rows `x`, `y`, `z`."""

    __slots__ = ("x", "y", "z")

    def __init__(self, x: Vec3 | None = None, y: Vec3 | None = None, z: Vec3 | None = None) -> None:
        self.x = Vec3() if x is None else x
        self.y = Vec3() if y is None else y
        self.z = Vec3() if z is None else z
