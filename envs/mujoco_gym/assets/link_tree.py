"""The tree of links both asset readers produce: what a URDF and an MJCF robot have in common.

Offsets are 3x3 rotation matrices and vectors in the parent's frame; lengths are in metres, masses in kg, angles in
radians. Inertias are full 3x3 matrices about the centre of mass, along the axes of the link.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np


class AssetError(ValueError):
    """A robot file that cannot be used; the message names the file, the element and what is wrong."""


@dataclass
class Shape:
    """One collision shape of a link.

    Attributes:
        kind: "sphere", "capsule", "cylinder", "box", "ellipsoid" or "mesh".
        size: Radius; radius and half length; half sides; or radii, as MuJoCo has it. Empty for a mesh.
        pos: Place in the link's frame, (3,).
        rot: Orientation in the link's frame, (3, 3).
        vertices: Points of a mesh in the shape's frame, whose convex hull collides, (num_vertices, 3).
        friction: Sliding friction coefficient.
        condim: Dimension of MuJoCo's contact: 1 is frictionless, 3 slides.
    """

    kind: str
    size: np.ndarray
    pos: np.ndarray
    rot: np.ndarray
    vertices: np.ndarray | None = None
    friction: float = 1.0
    condim: int = 3


@dataclass
class Joint:
    """One degree of freedom of a link in its parent.

    Attributes:
        name: Name of the joint.
        kind: "hinge" or "slide".
        axis: Unit axis in the link's frame, (3,).
        pos: A point of the axis in the link's frame, (3,).
        lower: Lower limit in rad or m; -inf without one.
        upper: Upper limit in rad or m; inf without one.
        effort: Largest force or torque in N or N m; inf without one.
        velocity: Largest speed in rad/s or m/s; inf without one.
        stiffness: Spring constant in N m/rad or N/m.
        damping: In N m s/rad or N s/m.
        friction: Friction torque or force in N m or N.
        armature: Reflected rotor inertia in kg m^2 or kg.
    """

    name: str
    kind: str
    axis: np.ndarray
    pos: np.ndarray = field(default_factory=lambda: np.zeros(3))
    lower: float = -np.inf
    upper: float = np.inf
    effort: float = np.inf
    velocity: float = np.inf
    stiffness: float = 0.0
    damping: float = 0.0
    friction: float = 0.0
    armature: float = 0.0


@dataclass
class Link:
    """One rigid body with its inertia, shapes, joints to the parent (none: welded to it) and children.

    Attributes:
        name: Name of the body.
        pos: Origin in the parent's frame, (3,).
        rot: Orientation in the parent's frame, (3, 3).
        mass: In kg; None where the file gives no inertia.
        com: Centre of mass in the link's frame, (3,).
        inertia: About the centre of mass, along the link's axes, (3, 3).
        shapes: Collision shapes.
        joints: Degrees of freedom in the parent, in order.
        joint_name: Name by which the link is sorted among its siblings; also a fixed joint has one.
        collapsible: Whether a fixed joint may be merged into the parent.
        children: Links that hang on this one.
    """

    name: str
    pos: np.ndarray = field(default_factory=lambda: np.zeros(3))
    rot: np.ndarray = field(default_factory=lambda: np.eye(3))
    mass: float | None = None
    com: np.ndarray = field(default_factory=lambda: np.zeros(3))
    inertia: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))
    shapes: list[Shape] = field(default_factory=list)
    joints: list[Joint] = field(default_factory=list)
    joint_name: str = ""
    collapsible: bool = True
    children: list[Link] = field(default_factory=list)

    def depth_first(self) -> Iterator[Link]:
        """This link and everything below it, depth first."""
        yield self
        for child in self.children:
            yield from child.depth_first()

    def sort_children(self) -> None:
        """Sort siblings by the name of their joint, here and everywhere below: Isaac Gym's order of bodies."""
        self.children.sort(key=lambda child: child.joint_name)
        for child in self.children:
            child.sort_children()

    def collapse_fixed_joints(self) -> dict[str, str]:
        """Merge welded links into their parents, here and everywhere below.

        Returns:
            Name of the link each merged link went into.
        """
        merged_into: dict[str, str] = {}
        children: list[Link] = []
        for child in self.children:
            merged_into.update(child.collapse_fixed_joints())
            if child.joints or not child.collapsible:
                children.append(child)
                continue
            merged_into[child.name] = self.name
            merged_into.update({name: self.name for name, into in merged_into.items() if into == child.name})
            self._merge(child)
            for grandchild in child.children:
                grandchild.pos = child.pos + child.rot @ grandchild.pos
                grandchild.rot = child.rot @ grandchild.rot
                children.append(grandchild)
        self.children = children
        return merged_into

    def _merge(self, child: Link) -> None:
        """Take over mass, inertia and shapes of a child that is welded to this link."""
        for shape in child.shapes:
            self.shapes.append(replace(shape, pos=child.pos + child.rot @ shape.pos, rot=child.rot @ shape.rot))
        if child.mass is None:
            return
        own_mass = self.mass or 0.0
        mass = own_mass + child.mass
        child_com = child.pos + child.rot @ child.com
        com = (own_mass * self.com + child.mass * child_com) / mass if mass > 0.0 else self.com
        child_inertia = child.rot @ child.inertia @ child.rot.T
        self.inertia = (
            self.inertia
            + _point_inertia(own_mass, self.com - com)
            + child_inertia
            + _point_inertia(child.mass, child_com - com)
        )
        self.mass, self.com = mass, com


def _point_inertia(mass: float, offset: np.ndarray) -> np.ndarray:
    """Inertia of a point mass about a place `offset` away (the parallel-axis theorem), (3, 3)."""
    return np.asarray(mass * (offset @ offset * np.eye(3) - np.outer(offset, offset)))
