"""Who takes part in a local federation: the project, its coordinator, and each hospital with its site file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from fedward.errors import SettingsError
from fedward.settings.phantom import PhantomHospital
from fedward.settings.read import Name, Settings, read_settings
from fedward.settings.site import SiteSettings

Organisation = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]

#: Certificates carry this name; it has the form of an address because NVFLARE demands one.
Person = Annotated[str, Field(pattern=r"^[a-z0-9_.-]{1,32}@[a-z0-9.-]{1,24}\.[a-z]{2,10}$")]


class Project(Settings):
    """The federation itself. Without ``port`` a free one is chosen at every start."""

    project: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,48}$")]
    coordinator: Person = "coordinator@fedward.example"
    operator: Person = "operator@fedward.example"
    organisation: Organisation = "coordination"
    port: Annotated[int, Field(ge=1024, le=65535)] | None = None

    @model_validator(mode="after")
    def _two_persons(self) -> Self:
        if self.coordinator == self.operator:
            raise ValueError("coordinator and operator must be two persons: only the operator may stop a site")
        return self


class HospitalEntry(Settings):
    """One hospital: its name, its organisation, its site file, and the phantom that stands for its archive if any."""

    name: Name
    organisation: Organisation
    site_file: Path
    phantom: PhantomHospital | None = None


class FederationSettings(Settings):
    """A whole federation file."""

    federation: Project
    hospital: Annotated[tuple[HospitalEntry, ...], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [hospital.name for hospital in self.hospital]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"hospital names must differ, found {twice} more than once")
        if "server" in names:
            raise ValueError("no hospital can be named server: that is the federation's own server")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The hospitals' names in the file's order."""
        return tuple(hospital.name for hospital in self.hospital)


def read_federation(path: Path) -> FederationSettings:
    """Read the federation file at ``path`` and every site file that it names; their paths become absolute.

    Raises:
        SettingsError: a file is missing or has faults; ``detail`` holds those of all files.
    """
    federation = read_settings(path, FederationSettings)
    folder = path.resolve().parent
    hospitals = tuple(h.model_copy(update={"site_file": folder / h.site_file}) for h in federation.hospital)
    faults = [fault for hospital in hospitals for fault in _faults_of(hospital)]
    if faults:
        raise SettingsError("invalid_settings", "\n".join(faults))
    return federation.model_copy(update={"hospital": hospitals})


def _faults_of(hospital: HospitalEntry) -> list[str]:
    try:
        site = read_settings(hospital.site_file, SiteSettings)
    except SettingsError as error:
        return [error.detail]
    faults = []
    if (site.name, site.organisation) != (hospital.name, hospital.organisation):
        expected, found = f"{hospital.name} of {hospital.organisation}", f"{site.name} of {site.organisation}"
        faults.append(f"{hospital.site_file}: is the site file of {found}, expected {expected}")
    if site.identity is not None:
        faults.append(f"{hospital.site_file}: [identity] is written when the federation is provisioned; leave it out")
    return faults
