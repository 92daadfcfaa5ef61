"""What a gateway and the fleet manager say over HTTP about certificates.

    POST /api/v1/fleet/enrol   {"gateway_id", "token", "request"}          → {"certificate", "authority"}
    POST /api/v1/fleet/renew   {"certificate", "request", "signature"}     → the same

All are texts in PEM but the token and the signature: that is ECDSA with SHA-256 by the present certificate's key over
`renewal_message`, in base64.
"""

ENROL_PATH = "/api/v1/fleet/enrol"
RENEW_PATH = "/api/v1/fleet/renew"
_RENEWAL = b"clawland certificate renewal 1\0"


def renewal_message(request_der: bytes) -> bytes:
    """What is signed: the request, marked so that the signature can never stand for anything else."""
    return _RENEWAL + request_der
