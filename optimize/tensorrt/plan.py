"""A TensorRT plan in an artifact: what its manifest says of it, and what is checked before it runs.

A plan is machine code: it is read once, and what was read is hashed and then given to TensorRT.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from optimize.artifact import ArtifactError
from optimize.buckets import Beyond, Buckets
from optimize.gpu_graphs import COMPUTE_CAPABILITY
from optimize.tensorrt.building import BuildOptions, profiles_json, read_profiles
from optimize.tensorrt.compatibility import Check, Promise, Target, compare
from rankers.wire import SCORE, wire_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optimize.artifact import Artifact, Manifest
    from optimize.tensorrt.profiles import Profile
    from rankers.features import Signature

FORMAT = "tensorrt"
PLAN = "model.plan"  # where Triton's TensorRT backend looks
LOG = "build.log"
LAYERS = "layers.json"
SETTING = "tensorrt_plan"


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What a manifest says of its plan, under the setting `SETTING`.

    Attributes:
        built: Where: TensorRT's version and the GPU.
        options: How.
        profiles: Which shapes it takes.
        sizes: The buckets.
        beyond: As in `optimize.buckets.Buckets`.
        requests: Joined into one run at most.
        graph_sha256: Of the ONNX graph it was built of, in dense wire form.
    """

    built: Target
    options: BuildOptions
    profiles: tuple[Profile, ...]
    sizes: tuple[int, ...]
    beyond: Beyond
    requests: int
    graph_sha256: str

    @property
    def buckets(self) -> Buckets:
        """The sizes and what is beyond."""
        return Buckets(self.sizes, self.beyond)

    @property
    def promise(self) -> Promise:
        """What it was built to bear."""
        return Promise(self.options.version_compatible, self.options.hardware)

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON-ready data."""
        return {
            "built": self.built.to_json(),
            "options": self.options.to_json(),
            "profiles": profiles_json(self.profiles),
            "sizes": list(self.sizes),
            "beyond": self.beyond,
            "requests": self.requests,
            "graph_sha256": self.graph_sha256,
        }

    @classmethod
    def of(cls, manifest: Manifest) -> PlanFacts:
        """Read what `to_json` wrote into a manifest.

        Raises:
            ArtifactError: It says nothing of a plan, or not what this rankserve writes.
        """
        try:
            data = manifest.settings[SETTING]
            return cls(
                built=Target(**data["built"]),
                options=BuildOptions(**data["options"]),
                profiles=read_profiles(data["profiles"]),
                sizes=tuple(data["sizes"]),
                beyond=data["beyond"],
                requests=data["requests"],
                graph_sha256=data["graph_sha256"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"the manifest of {manifest.name!r} does not describe a TensorRT plan: build it "
                f"again ({error})"
            ) from error


def read_plan(artifact: Artifact) -> bytes:
    """Read a plan, and return what was read only if it is what the artifact was sealed with.

    Raises:
        ArtifactError: It is not, or is missing.
    """
    expected = artifact.manifest.files.get(artifact.manifest.model)
    try:
        data = artifact.model_path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{artifact.model_path}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != expected:
        raise ArtifactError(
            f"{artifact.model_path}: its SHA-256 is not the manifest's, and an engine is code: it "
            "is not loaded; build it again"
        )
    return data


def check_plan(manifest: Manifest, target: Target) -> list[Check]:
    """Hold a plan against where it is to run; see `optimize.tensorrt.compatibility.compare`."""
    facts = PlanFacts.of(manifest)
    least = manifest.requires.get(COMPUTE_CAPABILITY, "")
    return compare(facts.built, facts.promise, target, least=least)


def refuse_elsewhere(artifact: Artifact, target: Target) -> None:
    """Raise unless a plan runs on a target, as far as that is known.

    Raises:
        ArtifactError: It does not; the message says why.
    """
    failed = [text for _, passed, text in check_plan(artifact.manifest, target) if not passed]
    if failed:
        raise ArtifactError(f"{artifact.folder}: this plan does not run there: {'; '.join(failed)}")


def refuse_other_tensors(names: Iterable[str], signature: Signature) -> None:
    """Raise unless an engine's inputs and output are the wire tensors of a signature and the score.

    Raises:
        ArtifactError: They are not.
    """
    expected = {*(each.name for each in wire_tensors(signature)), SCORE}
    if {*names} != expected:
        raise ArtifactError(
            f"the engine has the tensors {sorted(names)}; expected {sorted(expected)}: build it of "
            "this artifact's graph"
        )


def plan_manifest(manifest: Manifest, facts: PlanFacts, note: str) -> Manifest:
    """Return the manifest of a plan that was built of an ONNX artifact.

    Its layout is ``user_once``, whatever the graph's was: wire tensors have each user once.
    """
    held = {name: x for name, x in manifest.requires.items() if name == COMPUTE_CAPABILITY}
    return replace(
        manifest,
        format=FORMAT,
        model=PLAN,
        layout="user_once",
        requires={FORMAT: facts.built.tensorrt} | held,
        settings={SETTING: facts.to_json()},
        notes=(*manifest.notes, note),
    )
