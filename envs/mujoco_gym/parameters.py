"""The plain classes and constants of `isaacgym.gymapi`: vectors, simulation, ground, asset and actor properties.

Attributes have Isaac Gym's names. A class refuses an attribute it does not know, as Isaac Gym's own do. What MuJoCo has
no counterpart for is accepted and has no effect; the docstrings say so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from torch import Tensor

__all__ = [
    "INVALID_HANDLE",
    "STATE_ALL",
    "STATE_NONE",
    "STATE_POS",
    "STATE_VEL",
    "AssetOptions",
    "CameraProperties",
    "ContactCollection",
    "CoordinateSpace",
    "DofDriveMode",
    "HeightFieldParams",
    "Mat33",
    "MujocoParams",
    "PhysXParams",
    "PlaneParams",
    "Quat",
    "RigidBodyProperties",
    "RigidShapeProperties",
    "SimParams",
    "SimType",
    "Transform",
    "TriangleMeshParams",
    "UpAxis",
    "Vec3",
]

Scalar: TypeAlias = float | np.ndarray | Tensor
"""A number, or an array or tensor of one element, as legged_gym hands them over."""

INVALID_HANDLE = -1
STATE_NONE, STATE_POS, STATE_VEL, STATE_ALL = 0, 1, 2, 3


class SimType(IntEnum):
    """Physics engines of Isaac Gym; SIM_PHYSX is the one MuJoCo stands in for."""

    SIM_PHYSX = 0
    SIM_FLEX = 1


class UpAxis(IntEnum):
    """Axis that points up; only z is supported."""

    UP_AXIS_Y = 0
    UP_AXIS_Z = 1


class CoordinateSpace(IntEnum):
    """Frame in which forces are given."""

    ENV_SPACE = 0
    LOCAL_SPACE = 1
    GLOBAL_SPACE = 2


class DofDriveMode(IntEnum):
    """How a degree of freedom is driven."""

    DOF_MODE_NONE = 0
    DOF_MODE_POS = 1
    DOF_MODE_VEL = 2
    DOF_MODE_EFFORT = 3


class ContactCollection(IntEnum):
    """When contacts are collected; here always in the last substep."""

    CC_NEVER = 0
    CC_LAST_SUBSTEP = 1
    CC_ALL_SUBSTEPS = 2


class Vec3:
    """Three floats. Components may be given as numpy or torch numbers, or arrays of one element."""

    __slots__ = ("_values",)

    def __init__(self, x: Scalar = 0.0, y: Scalar = 0.0, z: Scalar = 0.0) -> None:
        self._values = [_scalar(x), _scalar(y), _scalar(z)]

    def _get(self, index: int) -> float:
        return self._values[index]

    def _set(self, index: int, value: Scalar) -> None:
        self._values[index] = _scalar(value)

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
        self.x, self.y, self.z, self.w = (_scalar(value) for value in (self.x, self.y, self.z, self.w))

    @staticmethod
    def from_axis_angle(axis: Vec3, angle: float) -> Quat:
        """Turn by an angle [rad] about a unit axis."""
        half = 0.5 * _scalar(angle)
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


@dataclass(slots=True)
class PhysXParams:
    """Settings of PhysX. `num_threads` limits MuJoCo's threads (0: one per core); the others have no effect here."""

    use_gpu: bool = False
    always_use_articulations: bool = False
    num_threads: int = 0
    num_subscenes: int = 0
    solver_type: int = 1
    num_position_iterations: int = 4
    num_velocity_iterations: int = 1
    contact_offset: float = 0.02
    rest_offset: float = 0.001
    bounce_threshold_velocity: float = 0.2
    max_depenetration_velocity: float = 100.0
    friction_offset_threshold: float = 0.04
    friction_correlation_distance: float = 0.025
    max_gpu_contact_pairs: int = 1024 * 1024
    default_buffer_size_multiplier: float = 2.0
    contact_collection: int = ContactCollection.CC_LAST_SUBSTEP


@dataclass(slots=True)
class MujocoParams:
    """Settings of MuJoCo, which Isaac Gym does not have: a `mujoco` entry in the simulation's configuration.

    Attributes:
        solver: "PGS", "CG" or "Newton".
        iterations: Iterations of the solver in every substep.
        cone: Friction cone, "pyramidal" or "elliptic".
        contact_time_constant: How fast a contact pushes penetrating bodies apart [s]; 0 for the larger of two
            substeps and 5 ms. Less makes contacts harder; less than two substeps is unstable.
    """

    solver: str = "PGS"
    iterations: int = 10
    cone: str = "pyramidal"
    contact_time_constant: float = 0.0


@dataclass(slots=True)
class SimParams:
    """Settings of a simulation.

    Attributes:
        dt: Time that one `simulate` advances [s].
        substeps: Number of physics steps in it, all with the same targets and forces.
        gravity: Acceleration of free fall [m/s^2].
        up_axis: Only UP_AXIS_Z is supported.
        physx: Accepted for Isaac Gym's sake; only `num_threads` has an effect.
        mujoco: Settings of MuJoCo.
    """

    dt: float = 1.0 / 60.0
    substeps: int = 2
    gravity: Vec3 = field(default_factory=lambda: Vec3(0.0, 0.0, -9.81))
    up_axis: int = UpAxis.UP_AXIS_Y
    use_gpu_pipeline: bool = False
    num_client_threads: int = 0
    stress_visualization: bool = False
    stress_visualization_min: float = 0.0
    stress_visualization_max: float = 1.0e5
    enable_actor_creation_warning: bool = True
    physx: PhysXParams = field(default_factory=PhysXParams)
    flex: object = None
    mujoco: MujocoParams = field(default_factory=MujocoParams)


@dataclass(slots=True)
class AssetOptions:
    """How `load_asset` reads a robot, and what holds for all actors made from it.

    `collapse_fixed_joints`, `replace_cylinder_with_capsule`, `fix_base_link`, `armature`, `disable_gravity`,
    `default_dof_drive_mode`, `density` and `use_physx_armature` are honoured; the others have no counterpart in MuJoCo.
    `skip_missing_meshes` is not Isaac Gym's: it leaves out collision meshes that cannot be loaded, with a warning.
    """

    default_dof_drive_mode: int = DofDriveMode.DOF_MODE_NONE
    fix_base_link: bool = False
    collapse_fixed_joints: bool = False
    replace_cylinder_with_capsule: bool = False
    disable_gravity: bool = False
    armature: float = 0.0
    density: float = 1000.0
    linear_damping: float = 0.0
    angular_damping: float = 0.5
    max_linear_velocity: float = 1000.0
    max_angular_velocity: float = 64.0
    thickness: float = 0.02
    flip_visual_attachments: bool = False
    enable_gyroscopic_forces: bool = True
    override_com: bool = False
    override_inertia: bool = False
    use_mesh_materials: bool = False
    use_physx_armature: bool = True
    vhacd_enabled: bool = False
    vhacd_params: object = None
    mesh_normal_mode: int = 0
    convex_decomposition_from_submeshes: bool = False
    slices_per_cylinder: int = 20
    min_particle_mass: float = 1.0e-12
    tendon_limit_stiffness: float = 1.0
    skip_missing_meshes: bool = False


@dataclass(slots=True)
class PlaneParams:
    """Infinite ground plane at `normal . x = -distance`."""

    normal: Vec3 = field(default_factory=lambda: Vec3(0.0, 0.0, 1.0))
    distance: float = 0.0
    static_friction: float = 1.0
    dynamic_friction: float = 1.0
    restitution: float = 0.0
    segmentation_id: int = 0


@dataclass(slots=True)
class HeightFieldParams:
    """Ground of int16 samples, flattened from (nbColumns, nbRows): the first index runs along x, the second along y."""

    nbRows: int = 0  # noqa: N815
    nbColumns: int = 0  # noqa: N815
    row_scale: float = 1.0
    column_scale: float = 1.0
    vertical_scale: float = 1.0
    transform: Transform = field(default_factory=Transform)
    static_friction: float = 1.0
    dynamic_friction: float = 1.0
    restitution: float = 0.0
    segmentation_id: int = 0


@dataclass(slots=True)
class TriangleMeshParams:
    """Ground of triangles; MuJoCo gets it as a height field."""

    nb_vertices: int = 0
    nb_triangles: int = 0
    transform: Transform = field(default_factory=Transform)
    static_friction: float = 1.0
    dynamic_friction: float = 1.0
    restitution: float = 0.0
    segmentation_id: int = 0


class RigidBodyProperties:
    """Mass [kg], centre of mass in the body's frame [m] and inertia about it [kg m^2] of a body of an actor.

    The mass may be set to an array of one element, as `props.mass += np.array([1.0])` does.
    """

    __slots__ = ("_mass", "com", "flags", "inertia")

    def __init__(
        self, mass: Scalar = 0.0, com: Vec3 | None = None, inertia: Mat33 | None = None, flags: int = 0
    ) -> None:
        self.mass = mass
        self.com = Vec3() if com is None else com
        self.inertia = Mat33() if inertia is None else inertia
        self.flags = flags

    @property
    def mass(self) -> float:
        """Mass [kg]."""
        return self._mass

    @mass.setter
    def mass(self, value: Scalar) -> None:
        self._mass = _scalar(value)


class RigidShapeProperties:
    """Surface of a collision shape. `friction` is honoured; it may be set to an array or tensor of one element."""

    __slots__ = (
        "_friction",
        "compliance",
        "contact_offset",
        "filter",
        "rest_offset",
        "restitution",
        "rolling_friction",
        "thickness",
        "torsion_friction",
    )

    def __init__(self, friction: Scalar = 1.0) -> None:
        self.friction = friction
        self.restitution = 0.0
        self.rolling_friction = 0.0
        self.torsion_friction = 0.0
        self.compliance = 0.0
        self.contact_offset = 0.02
        self.rest_offset = 0.001
        self.thickness = 0.01
        self.filter = 0

    @property
    def friction(self) -> float:
        """Coefficient of friction; a contact gets the mean of both surfaces'."""
        return self._friction

    @friction.setter
    def friction(self, value: Scalar) -> None:
        self._friction = _scalar(value)


@dataclass(slots=True)
class CameraProperties:
    """Settings of a camera; nothing is drawn here."""

    width: int = 1600
    height: int = 900
    horizontal_fov: float = 90.0
    near_plane: float = 0.1
    far_plane: float = 1.0e6
    enable_tensors: bool = False
    supersampling_horizontal: int = 1
    supersampling_vertical: int = 1
    use_collision_geometry: bool = False


def _scalar(value: Scalar) -> float:
    return float(value.item() if isinstance(value, (np.ndarray, Tensor)) else value)
