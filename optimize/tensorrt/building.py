"""What TensorRT's builder is told, as data; `optimize.tensorrt.builder` tells it.

The names are those of the Python bindings of 10.9, 10.15 and 11.4, where each was looked up.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from optimize.tensorrt.profiles import Profile, Shape
from rankers.errors import UserError
from rankers.wire import wire_tensors

if TYPE_CHECKING:
    from optimize.buckets import Buckets
    from optimize.tensorrt.compatibility import Hardware
    from rankers.features import Signature

Profiles = Literal["one", "buckets"]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How an engine is built.

    Attributes:
        version_compatible: Later versions of TensorRT run it; slower.
        hardware: Which other GPUs run it; slower.
        tf32: Whether float32 products may be computed in TF32.
        workspace_mib: The most memory that a tactic may use; 0 is the GPU's own.
        level: From 0, a fast build, to 5, which compares the most tactics.
    """

    version_compatible: bool = False
    hardware: Hardware = "none"
    tf32: bool = False
    workspace_mib: int = 0
    level: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 5:
            raise UserError(f"level is {self.level}; TensorRT has 0 to 5")
        if self.workspace_mib < 0:
            raise UserError(f"workspace_mib is {self.workspace_mib}; expected 0 or more")

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BuilderSettings:
    """Names of TensorRT's own, to set.

    Attributes:
        network_flags: Of ``NetworkDefinitionCreationFlag``.
        parser_flags: Of ``OnnxParserFlag``.
        set_flags: Of ``BuilderFlag``.
        clear_flags: Of ``BuilderFlag``, which are set by default.
        hardware: Of ``HardwareCompatibilityLevel``.
        verbosity: Of ``ProfilingVerbosity``.
        level: The builder's optimization level.
        workspace_bytes: Of ``MemoryPoolType.WORKSPACE``; 0 leaves it.
    """

    network_flags: tuple[str, ...]
    parser_flags: tuple[str, ...]
    set_flags: tuple[str, ...]
    clear_flags: tuple[str, ...]
    hardware: str
    verbosity: str
    level: int
    workspace_bytes: int


def builder_settings(options: BuildOptions, version: str) -> BuilderSettings:
    """Return what the builder of a version of TensorRT is told.

    Raises:
        UserError: The version is older than 10, whose networks cannot be as strongly typed.
    """
    major = int(version.partition(".")[0])
    if major < 10:
        raise UserError(f"TensorRT {version} is installed; engines are built by 10 or later")
    portable = options.version_compatible or options.hardware != "none"
    return BuilderSettings(
        # TensorRT 11 has no other kind of network, and its flag is deprecated.
        network_flags=("STRONGLY_TYPED",) if major == 10 else (),
        # A portable engine may use no plugin for it.
        parser_flags=("NATIVE_INSTANCENORM",) if portable else (),
        set_flags=("VERSION_COMPATIBLE",) if options.version_compatible else (),
        clear_flags=() if options.tf32 else ("TF32",),
        hardware=options.hardware.upper(),
        verbosity="DETAILED",  # so that an engine can say which kernels it has
        level=options.level,
        workspace_bytes=options.workspace_mib << 20,
    )


def engine_profiles(
    signature: Signature, buckets: Buckets, *, usual: int, requests: int, mode: Profiles
) -> tuple[Profile, ...]:
    """Return the optimization profiles of an engine over dense wire tensors.

    Args:
        signature: The features.
        buckets: Of candidates.
        usual: The bucket that ``one`` profile is tuned for.
        requests: Joined into one run at most.
        mode: ``one`` from a candidate to the greatest bucket; or a profile for each of the
            ``buckets``, tuned for its own size: larger plans, longer builds, faster kernels.
    """
    ranges = [(1, usual, buckets.greatest)] if mode == "one" else buckets.ranges()
    return tuple(_profile(signature, each, requests) for each in ranges)


def profile_holding(profiles: tuple[Profile, ...], candidates: int) -> int:
    """Return the place of the first profile that takes so many candidates of one request.

    Raises:
        UserError: None does.
    """
    for place, profile in enumerate(profiles):
        items = [shapes for shapes in profile.shapes.values() if len(shapes[0]) == 3]
        if all(least[1] <= candidates <= most[1] for least, _, most in items):
            return place
    raise UserError(f"no profile of the engine takes {candidates} candidates: build it for them")


def profiles_json(profiles: tuple[Profile, ...]) -> list[dict[str, list[list[int]]]]:
    """Return profiles as JSON-ready data."""
    return [
        {name: [[*shape] for shape in shapes] for name, shapes in each.shapes.items()}
        for each in profiles
    ]


def read_profiles(data: Any) -> tuple[Profile, ...]:
    """Read what `profiles_json` returned."""
    return tuple(
        Profile({name: tuple(tuple(shape) for shape in shapes) for name, shapes in each.items()})  # type: ignore[misc]
        for each in data
    )


def _profile(signature: Signature, candidates: tuple[int, int, int], requests: int) -> Profile:
    counts = ((1, candidates[0]), (1, candidates[1]), (requests, candidates[2]))
    shapes: dict[str, tuple[Shape, Shape, Shape]] = {}
    for each in wire_tensors(signature):
        least, usual, most = (
            (users, each.width) if each.side == "user" else (users, rows, each.width)
            for users, rows in counts
        )
        shapes[each.name] = (least, usual, most)
    return Profile(shapes)
