import pytest

from client import InvalidRequest, RankerClient
from client.sent_metadata import sendable


def test_metadata_is_sent_as_it_is():
    assert sendable({"authorization": "Bearer a b", "x-tag": ""}) == (
        ("authorization", "Bearer a b"),
        ("x-tag", ""),
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("Authorization", "s3cret", "name 'Authorization' cannot be sent: use lowercase"),
        ("", "s3cret", "name '' cannot be sent"),
        ("grpc-timeout", "s3cret", "not beginning with 'grpc-'"),
        ("token-bin", "s3cret", "'token-bin' would be bytes"),
        ("token", "s3cret\n", "value of metadata 'token' cannot be sent: use printable ASCII"),
        ("token", b"s3cret", "value of metadata 'token' cannot be sent"),
        (7, "s3cret", "name 7 cannot be sent"),
    ],
)
def test_what_cannot_be_sent_is_refused_when_the_client_is_made(name, value, said):
    with pytest.raises(InvalidRequest, match=said) as caught:
        RankerClient("127.0.0.1:1", "tiny", metadata={name: value})
    assert "s3cret" not in str(caught.value)
