"""A federation's certificates and a small job, as several tests of trust need them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.x509.oid import NameOID

from fedward.identity.certificates import fingerprint
from fedward.settings.job import InferenceJob, Sites, TrainingJob
from fedward.settings.read import parse_settings
from fedward.settings.site import Identity

PROJECT = "trials"
NOW = datetime(2031, 5, 17, 12, 30, 15, 250, tzinfo=UTC)
DAY = timedelta(days=1)


@cache
def rsa_key(name: str) -> RSAPrivateKey:
    """Give one RSA key a name for the whole run: making one takes a tenth of a second."""
    return generate_private_key(public_exponent=65537, key_size=2048)


def pem_of(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass(frozen=True)
class Authority:
    """A federation's root, valid for ten years around ``NOW``; ``name`` chooses the key."""

    name: str = "root"
    start: datetime = NOW - 365 * 5 * DAY
    end: datetime = NOW + 365 * 5 * DAY
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        builder = self._builder(PROJECT, PROJECT, start=self.start, end=self.end).public_key(self.key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        object.__setattr__(self, "certificate", builder.sign(self.key, hashes.SHA256()))

    @property
    def key(self) -> RSAPrivateKey:
        return rsa_key(self.name)

    def leaf(
        self,
        subject: str,
        *,
        key: Any = None,
        is_authority: bool | None = None,
        days: tuple[int, int] = (-100, 100),
        role: str | None = None,
    ) -> x509.Certificate:
        """Sign a leaf as NVFLARE does: RSA, without basic constraints unless ``is_authority`` says so.

        ``role`` is what NVFLARE writes as the unstructured name of the subject, or leaves out.
        """
        public_key = (key or rsa_key(subject)).public_key()
        builder = self._builder(subject, PROJECT, start=NOW + days[0] * DAY, end=NOW + days[1] * DAY, role=role)
        builder = builder.public_key(public_key)
        if is_authority is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        return builder.sign(self.key, hashes.SHA256())

    @staticmethod
    def _builder(
        subject: str, issuer: str, *, start: datetime, end: datetime, role: str | None = None
    ) -> x509.CertificateBuilder:
        named = [x509.NameAttribute(NameOID.COMMON_NAME, subject)]
        if role is not None:
            named.append(x509.NameAttribute(NameOID.UNSTRUCTURED_NAME, role))
        builder = x509.CertificateBuilder().subject_name(x509.Name(named))
        builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(start).not_valid_after(end)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def identity(folder: Path, authority: Authority, *listed: x509.Certificate, **more: Any) -> Identity:
    """Give a site's trust settings: this root and these coordinators."""
    root = folder / "root.pem"
    root.write_bytes(pem(authority.certificate))
    coordinators = tuple(fingerprint(certificate) for certificate in listed)
    return Identity(project=PROJECT, root_certificate=root, coordinators=coordinators, **more)


TRAINING: dict[str, Any] = {
    "kind": "train",
    "name": "lung_nodule",
    "sites": {"minimum": 2},
    "input": {
        "modality": "CT",
        "spacing_mm": [2.0, 1.5, 1.5],
        "intensity": {"kind": "window", "low": -1000.0, "high": 400.0},
    },
    "task": {"kind": "segmentation", "classes": ["nodule"], "measure": "lesion_dice", "minimum_lesion_mm": 6.0},
    "network": {"name": "unet3d", "channels": [4, 8]},
    "training": {
        "rounds": 3,
        "steps_per_round": 2,
        "batch_size": 1,
        "patch_size": [16, 16, 16],
        "learning_rate": 0.001,
    },
    "exchange": {"mode": "plain", "max_update_norm": 10.0},
}


def training_job(**more: Any) -> TrainingJob:
    return parse_settings({**TRAINING, **more}, TrainingJob, where="test")


def inference_job() -> InferenceJob:
    return InferenceJob(kind="infer", name="inference", sites=Sites(minimum=1))
