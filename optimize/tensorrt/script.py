"""Scripts that build TensorRT engines in NVIDIA's containers."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from optimize.runtimes.onnx_providers import shapes_text

if TYPE_CHECKING:
    from optimize.tensorrt.building import BuildOptions
    from optimize.tensorrt.profiles import Profile

# The month of Dockerfile.triton: images of one month have one version of TensorRT, and an engine
# is read by no other.
IMAGE = "nvcr.io/nvidia/tensorrt:26.08-py3"
ENGINE = "model.plan"


def build_script(
    model: str, profile: Profile, *, name: str, least: str = "", image: str = IMAGE
) -> str:
    """Return a shell script that builds an engine of a graph, whose folder it is given.

    Args:
        model: The graph's file name.
        profile: The shapes.
        name: The ranker's, for the comment.
        least: The compute capability that its products need; empty if any will do.
        image: The container that has TensorRT's ``trtexec``.
    """
    options = [
        f"--onnx=/graph/{model}",
        *_profile_flags(profile),
        f"--saveEngine=/engine/{ENGINE}",
        "--timingCacheFile=/engine/timing.cache",
        "--profilingVerbosity=detailed",
        "--skipInference",
    ]
    command = " \\\n  ".join(shlex.quote(each) for each in options)
    return f"""#!/bin/sh
# Builds {ENGINE} of {_comment(name)} here, from the artifact in the folder $1. Run it on the
# machine with the GPU that will serve: an engine is tied to it and to the version of TensorRT.
# It was generated where there is no GPU, and not run.
# TensorRT 10 wants --stronglyTyped, or it may choose other types than the graph's. TensorRT 11 has
# no other kind of network.
set -eu
{_refusal(least)}graph=$(cd "${{1:?the folder of {model}}}" && pwd)
typed=$(docker run --rm {shlex.quote(image)} sh -c 'trtexec --help || true' 2>/dev/null \\
  | grep --only-matching --max-count=1 -e '--stronglyTyped' || true)
docker run --rm --gpus all --volume "$graph:/graph:ro" --volume "$PWD:/engine" \\
  {shlex.quote(image)} trtexec \\
  ${{typed:+"$typed"}} \\
  {command}
sha256sum {ENGINE}
"""


def engine_script(
    model: str, profile: Profile, options: BuildOptions, *, name: str, least: str = ""
) -> str:
    """Return a shell script that builds an engine of the graph beside it, in the serving image.

    Args:
        model: The graph's file name; it takes dense wire tensors.
        profile: The shapes.
        options: How it is built.
        name: The model's, for the comment.
        least: The compute capability that its products need; empty if any will do.
    """
    flags = [
        f"--onnx={model}",
        *_profile_flags(profile),
        "--saveEngine=.building.plan",
        "--timingCacheFile=.timing.cache",
        "--profilingVerbosity=detailed",
        f"--builderOptimizationLevel={options.level}",
        "--skipInference",
        *(() if options.tf32 else ("--noTF32",)),
        *(("--versionCompatible",) if options.version_compatible else ()),
        *(_HARDWARE[options.hardware]),
        *((f"--memPoolSize=workspace:{options.workspace_mib}",) if options.workspace_mib else ()),
    ]
    command = " \\\n  ".join(shlex.quote(each) for each in flags)
    return f"""#!/bin/sh
# Builds {ENGINE} of {model} beside it, for {_comment(name)}: with the TensorRT of the image that
# serves it, on the GPU that serves it. Dockerfile.triton runs it when the container starts.
# TensorRT 10 wants --stronglyTyped, or it may choose other types than the graph's.
set -eu
{_refusal(least)}cd "$(dirname "$0")"
trtexec=$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)
typed=$("$trtexec" --help 2>/dev/null | grep -o -m 1 -e '--stronglyTyped' || true)
"$trtexec" ${{typed:+"$typed"}} \\
  {command}
mv .building.plan {ENGINE}
sha256sum {ENGINE}
"""


def recipe_script(recipe: str, *, image: str = IMAGE) -> str:
    """Return a shell script that runs a recipe in NVIDIA's container, from rankserve's folder.

    Args:
        recipe: Its name.
        image: The container that has TensorRT with its Python package.
    """
    return f"""#!/bin/sh
# Runs the recipe {recipe} on the ranker $1 in NVIDIA's TensorRT container, on this machine's GPU,
# and leaves the run in $2. Run it from rankserve's folder. An engine runs where the same version
# of TensorRT serves: the image is of the month of Dockerfile.triton. Not run yet.
set -eu
ranker=${{1:?a ranker: file.py:function, package.module:function or a name of the zoo}}
out=${{2:-build/{recipe}}}
docker run --rm --gpus all --volume "$PWD:/rankserve" --workdir /rankserve \\
  {shlex.quote(image)} sh -c '
    python3 -m venv --system-site-packages /tmp/venv &&
    /tmp/venv/bin/pip install --quiet torch --editable . &&
    exec /tmp/venv/bin/python -m optimize run "$1" --recipe "$2" --device cuda --out "$3"
  ' run "$ranker" {shlex.quote(recipe)} "$out"
"""


def _refusal(least: str) -> str:
    """Return lines that end a script, with a line, on a GPU below a compute capability."""
    if not least:
        return ""
    return f"""gpu=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null || true)
gpu=$(echo "$gpu" | head -n 1)
if [ -n "$gpu" ] && ! awk "BEGIN {{ exit !($gpu >= {least}) }}"; then
  echo "this graph is in fp8, which needs compute capability {least} or more; this GPU has $gpu" >&2
  exit 1
fi
"""


_HARDWARE: dict[str, tuple[str, ...]] = {
    "none": (),
    "ampere_plus": ("--hardwareCompatibilityLevel=ampere+",),
    "same_compute_capability": ("--hardwareCompatibilityLevel=sameComputeCapability",),
}


def _profile_flags(profile: Profile) -> list[str]:
    return [
        f"--{which}Shapes={_shapes(profile, place)}"
        for place, which in enumerate(("min", "opt", "max"))
    ]


def _shapes(profile: Profile, place: int) -> str:
    return shapes_text({name: each[place] for name, each in profile.shapes.items()})


def _comment(name: str) -> str:
    return " ".join(name.split())
