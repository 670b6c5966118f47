"""A CA of the laboratory's own and a certificate for servers on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab.network import HOST

_Key = ec.EllipticCurvePrivateKey
_VALID = timedelta(days=2)


@dataclass(frozen=True)
class Certificates:
    """Files, all PEM, all made for one laboratory."""

    authority: Path
    """The certificate of the CA."""

    certificate: Path
    """A server's certificate, for 127.0.0.1 and localhost, signed by the CA."""

    key: Path
    """That server's private key."""

    stranger: Path
    """The certificate of another CA, which has signed nothing."""


def make_certificates(directory: Path) -> Certificates:
    """Make a CA, a stranger, and a server's certificate.

    :param directory: where to; made anew
    """
    directory.mkdir()
    made = Certificates(
        authority=directory / "ca.pem",
        certificate=directory / "server.pem",
        key=directory / "server.key",
        stranger=directory / "stranger.pem",
    )
    key, authority = _authority("lab CA", made.authority)
    _authority("stranger CA", made.stranger)
    _server(made, issuer=authority, signed_with=key)
    return made


def _authority(name: str, path: Path) -> tuple[_Key, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, issuer=_name(name), key=key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(path, certificate)
    return key, certificate


def _server(made: Certificates, *, issuer: x509.Certificate, signed_with: _Key) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address(HOST))]
    public = signed_with.public_key()
    certificate = (
        _builder("lab server", issuer=issuer.subject, key=key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(signed_with, hashes.SHA256())
    )
    _write(made.certificate, certificate)
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _builder(name: str, *, issuer: x509.Name, key: _Key) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
