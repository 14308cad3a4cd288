"""TLS, mutual TLS and tokens: a proxy before the real server has the certificate and looks."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from tiny_ranker import make_request

from client import RankerClient, ServerUnreachable

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate"),
]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", folder / "key.pem", "-out", folder / "certificate.pem"),
        ],
        check=True,
        capture_output=True,
    )
    return (folder / "certificate.pem").read_bytes(), (folder / "key.pem").read_bytes()


@contextmanager
def proxy(url, certificate, *, mutual):
    """Pass every call on to a server; give the address, and the metadata of each call."""
    chain, key = certificate
    seen = []
    with grpc.insecure_channel(url) as behind:

        class PassOn(grpc.GenericRpcHandler):
            def service(self, details):
                call = behind.unary_unary(details.method)

                def pass_on(body, context):
                    seen.append((details.method, dict(context.invocation_metadata())))
                    return call(body)

                return grpc.unary_unary_rpc_method_handler(pass_on)

        server = grpc.server(ThreadPoolExecutor(2), handlers=[PassOn()])
        credentials = grpc.ssl_server_credentials(
            [(key, chain)], root_certificates=chain if mutual else None, require_client_auth=mutual
        )
        port = server.add_secure_port("localhost:0", credentials)
        server.start()
        yield f"localhost:{port}", seen
        server.stop(10).wait()


@pytest.mark.parametrize("mutual", [False, True])
def test_calls_are_encrypted_and_carry_the_token(tiny_server, certificate, tiny_predictor, mutual):
    chain, key = certificate
    request = make_request(np.random.default_rng(0), 20)
    own = (key, chain) if mutual else (None, None)
    credentials = grpc.ssl_channel_credentials(chain, *own)
    with proxy(tiny_server.grpc_url, certificate, mutual=mutual) as (url, seen):
        with RankerClient(
            [url, url],
            "tiny",
            timeout_s=30,
            credentials=credentials,
            metadata={"authorization": "Bearer s3cret"},
        ) as client:
            np.testing.assert_array_equal(client.rank(request), tiny_predictor(request.flat()))
        assert [method.rsplit("/")[-1] for method, _ in seen] == ["ModelConfig", "ModelInfer"]
        assert {metadata["authorization"] for _, metadata in seen} == {"Bearer s3cret"}
        # An address is asked for the certificate of the name that it was found by.
        with RankerClient(
            f"dns:///{url}",
            "tiny",
            timeout_s=30,
            credentials=credentials,
            resolver=lambda host, port: ["127.0.0.1"],
        ) as named:
            assert len(named.rank(request)) == 20
        with (
            RankerClient(url, "tiny", timeout_s=30) as plain,
            pytest.raises(ServerUnreachable, match="no server answers"),
        ):
            plain.rank(request)
