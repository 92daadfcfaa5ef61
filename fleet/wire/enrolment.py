"""What a gateway and the fleet manager say over HTTP about certificates.

    POST /api/v1/fleet/enrol   {"gateway_id", "request"}      → {"certificate", "authority"}
    POST /api/v1/fleet/renew   {"certificate", "request"}     → the same

Certificates and requests are PEM. The proof is in the header, `Authorization: Bearer PROOF`: the enrolment token, or
for a renewal the signature over `renewal_message` by the present certificate's key, ECDSA with SHA-256, in base64.
"""

ENROL_PATH = "/api/v1/fleet/enrol"
RENEW_PATH = "/api/v1/fleet/renew"
_RENEWAL = b"clawland certificate renewal 1\0"


def renewal_message(request_der: bytes) -> bytes:
    """What is signed: the request, marked so that the signature can never stand for anything else."""
    return _RENEWAL + request_der
