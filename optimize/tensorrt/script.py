"""The script that builds a TensorRT engine of an ONNX graph, in NVIDIA's container."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optimize.tensorrt.profiles import Profile, Shape

# The month of Dockerfile.triton: images of one month have one version of TensorRT, and an engine
# is read by no other.
IMAGE = "nvcr.io/nvidia/tensorrt:26.08-py3"
ENGINE = "model.plan"


def build_script(model: str, profile: Profile, *, name: str, image: str = IMAGE) -> str:
    """Return a shell script that builds an engine of a graph, whose folder it is given.

    Args:
        model: The graph's file name.
        profile: The shapes.
        name: The ranker's, for the comment.
        image: The container that has TensorRT's ``trtexec``.
    """
    options = [
        f"--onnx=/graph/{model}",
        *(
            f"--{which}Shapes={_shapes(profile, place)}"
            for place, which in enumerate(("min", "opt", "max"))
        ),
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
graph=$(cd "${{1:?the folder of {model}}}" && pwd)
typed=$(docker run --rm {shlex.quote(image)} sh -c 'trtexec --help || true' 2>/dev/null \\
  | grep --only-matching --max-count=1 -e '--stronglyTyped' || true)
docker run --rm --gpus all --volume "$graph:/graph:ro" --volume "$PWD:/engine" \\
  {shlex.quote(image)} trtexec \\
  ${{typed:+"$typed"}} \\
  {command}
sha256sum {ENGINE}
"""


def _shapes(profile: Profile, place: int) -> str:
    return ",".join(f"{name}:{_shape(each[place])}" for name, each in profile.shapes.items())


def _shape(shape: Shape) -> str:
    return "x".join(str(each) for each in shape)


def _comment(name: str) -> str:
    return " ".join(name.split())
