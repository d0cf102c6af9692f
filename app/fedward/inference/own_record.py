"""What a hospital found out about a release on its own labelled patients: kept at the site, shown in its reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from fedward.errors import StoreError
from fedward.files import write_text
from fedward.identity.document import Sha256
from fedward.inference.findings import Probability

#: Below the site's state folder.
OWN = "own"

Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Calibration(_Part):
    """The temperature by which logits are divided (Guo et al., ICML 2017, section 4.2), and what it does.

    Attributes:
        temperature: Above 1 where the network is too sure of itself.
        lesions: On how many lesions (or whole images) of validation patients it was fitted.
        error_before: The expected calibration error of the positive class on them without it.
        error_after: And with it.
    """

    temperature: Annotated[float, Field(gt=0)]
    lesions: Annotated[int, Field(ge=1)]
    error_before: Probability
    error_after: Probability


class Measurement(_Part):
    """What one measurement is worth; see :class:`fedward.evaluation.importance.MeasurementImportance`."""

    name: str
    fall: float
    deviation: Annotated[float, Field(ge=0)]


class Association(_Part):
    """How well, and by which measurements, this hospital's labelled lesions of one class are told from the others.

    Attributes:
        positive: The class.
        auc: Of a random forest, on lesions of patients whom it was not grown on.
        lesions: How many labelled lesions.
        positives: How many of them are of the class.
        patients: Of how many patients.
        measurements: By falling worth.
    """

    positive: str
    auc: Probability
    lesions: Count
    positives: Count
    patients: Count
    measurements: tuple[Measurement, ...]


class OwnRecord(_Part):
    """All of it, for one release and one detector.

    Attributes:
        model_sha256: The model's.
        detector_sha256: Of the model that found the lesions; None where it found its own or judges whole images.
        made: When.
        judged: Lesions of validation patients that the model judged and the labels know.
        calibration: None with too few of them.
        association: None with too few labelled lesions, or of one class alone.
    """

    model_sha256: Sha256
    detector_sha256: Sha256 | None
    made: AwareDatetime
    judged: Count
    calibration: Calibration | None
    association: Association | None


def write_own_record(record: OwnRecord, *, state: Path, name: str, number: int) -> Path:
    """Keep the record of the release ``name`` ``number``, in place of an older one.

    Raises:
        StoreError: the disk cannot take it.
    """
    path = _path(state, name, number)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_text(path, record.model_dump_json(indent=2) + "\n", mode=0o600)
    return path


def read_own_record(
    state: Path, *, name: str, number: int, model_sha256: str, detector_sha256: str | None
) -> OwnRecord | None:
    """Give what the hospital found out about a release; None where it did not look, or looked at another model.

    Raises:
        StoreError: ``cannot_read``: the file is no such record.
    """
    path = _path(state, name, number)
    try:
        record = OwnRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise StoreError(
            "cannot_read", f"{path} is damaged; fedward model calibrate {name}-{number} makes it anew"
        ) from error
    is_of_both = (record.model_sha256, record.detector_sha256) == (model_sha256, detector_sha256)
    return record if is_of_both else None


def _path(state: Path, name: str, number: int) -> Path:
    return state / OWN / f"{name}-{number}.json"
