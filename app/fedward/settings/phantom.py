"""What makes one phantom hospital unlike another: its scanner, its protocol and its patients."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedward.settings.read import Settings

Share = Annotated[float, Field(ge=0, le=1)]
LongString = Annotated[str, Field(min_length=1, max_length=64)]
ShortString = Annotated[str, Field(min_length=1, max_length=16)]

#: The transfer syntaxes that a phantom scanner can write (DICOM PS3.5, section 10).
TransferSyntax = Literal["explicit-little-endian", "implicit-little-endian", "rle-lossless", "jpeg-ls-lossless"]


class Scanner(Settings):
    """The machine, and how it stores what it measures.

    ``table`` is the couch's cross-section; ``patient_position`` is (0018,5100).
    """

    maker: LongString
    model: LongString
    table: Literal["flat", "curved"] = "curved"
    patient_position: Literal["HFS", "FFS"] = "HFS"
    transfer_syntax: TransferSyntax = "explicit-little-endian"
    rescale_intercept: Annotated[int, Field(ge=-8192, le=0)] = -1024
    rescale_slope: Annotated[float, Field(gt=0, le=4)] = 1.0
    signed_pixels: bool = False

    @model_validator(mode="after")
    def _unsigned_pixels_reach_air(self) -> Self:
        if not self.signed_pixels and self.rescale_intercept > -1024:
            raise ValueError(f"unsigned pixels need a rescale_intercept of -1024 or less, got {self.rescale_intercept}")
        return self


class Protocol(Settings):
    """How the scans are taken and reconstructed.

    ``resolution_mm`` is the width (FWHM) of the in-plane point spread, ``noise_hu`` the standard deviation in soft
    tissue at the stored resolution, ``sharpness`` runs from 0 (smooth kernel, coarse noise) to 1 (edge kernel, fine
    noise), ``contrast_hu`` is the blood's enhancement over unenhanced blood.
    """

    matrix: Annotated[int, Field(ge=64, le=512)]
    pixel_spacing_mm: Annotated[float, Field(ge=0.5, le=3)]
    slice_thickness_mm: Annotated[float, Field(ge=0.5, le=5)]
    slice_increment_mm: Annotated[float, Field(ge=0.5, le=5)]
    slices: Annotated[int, Field(ge=20, le=400)]
    kernel: ShortString
    sharpness: Share
    resolution_mm: Annotated[float, Field(gt=0, le=4)]
    noise_hu: Annotated[float, Field(ge=0, le=100)]
    kvp: Annotated[int, Field(ge=80, le=140)]
    tube_current_ma: Annotated[int, Field(ge=10, le=800)]
    exposure_time_ms: Annotated[int, Field(ge=100, le=2000)] = 500
    contrast_hu: Annotated[float, Field(ge=0, le=30)] = 0.0

    @model_validator(mode="after")
    def _slices_leave_no_gap(self) -> Self:
        if self.slice_increment_mm > self.slice_thickness_mm:
            raise ValueError(f"slices of {self.slice_thickness_mm} mm every {self.slice_increment_mm} mm leave gaps")
        return self


class Nodules(Settings):
    """What the hospital's nodules are like; each share is kept exactly, rounded over all its nodules.

    ``diameter_mm`` is the median of the long axes, which always lie between 6 and 20 mm. Nodules that are neither
    juxta-vascular nor juxta-pleural are isolated; ``juxta_vascular_share`` holds for the solid ones, 0.7 of it for the
    subsolid ones. ``lower_share`` is the share in the lower half of the scan.
    """

    diameter_mm: Annotated[float, Field(ge=7, le=18)] = 11.0
    diameter_spread: Annotated[float, Field(ge=0.05, le=1)] = 0.35
    ground_glass_share: Share = 0.15
    part_solid_share: Share = 0.15
    juxta_vascular_share: Share = 0.5
    juxta_pleural_share: Share = 0.2
    lobulated_share: Share = 0.3
    spiculated_share: Share = 0.3
    lower_share: Share = 0.5

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        subsolid = self.ground_glass_share + self.part_solid_share
        if subsolid < 0.2:
            raise ValueError(f"at least a fifth of the nodules is subsolid, got {subsolid:.2f}")
        for names in (
            ("ground_glass_share", "part_solid_share"),
            ("juxta_vascular_share", "juxta_pleural_share"),
            ("lobulated_share", "spiculated_share"),
        ):
            if sum(getattr(self, name) for name in names) > 1:
                raise ValueError(f"{' and '.join(names)} add up to more than 1")
        return self


class PhantomHospital(Settings):
    """One hospital's phantom: how many patients, and what they and the scanner are like.

    ``share_with_localizer`` of the patients have a scout image, ``share_with_report`` a text object beside the scan.
    """

    patients: Annotated[int, Field(ge=1, le=9999)]
    share_without_nodule: Share = 0.25
    share_with_localizer: Share = 0.2
    share_with_report: Share = 0.2
    body_scale: Annotated[float, Field(ge=0.8, le=1.2)] = 1.0
    scanner: Scanner
    protocol: Protocol
    nodules: Nodules = Nodules()
