"""The plain classes and constants of `isaacgym.gymapi`: simulation, ground, asset and actor properties.

Attributes have Isaac Gym's names. A class refuses an attribute it does not know, as Isaac Gym's own do. What MuJoCo has
no counterpart for is accepted and has no effect; the docstrings say so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from envs.mujoco_gym.types.vectors import Mat33, Quat, Scalar, Transform, Vec3, to_float

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
        noslip_iterations: Iterations in every substep against the slow slip of MuJoCo's soft contacts: without them
            a foot that something pulls at creeps by millimetres a second.
    """

    solver: str = "PGS"
    iterations: int = 10
    cone: str = "pyramidal"
    contact_time_constant: float = 0.0
    noslip_iterations: int = 0


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
        self._mass = to_float(value)


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
        self._friction = to_float(value)


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
