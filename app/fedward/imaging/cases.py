"""A site's labelled cases for one job: read, split by patient, prepared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedward.dicom.source import StudyCase, open_source
from fedward.dicom.volume import Label, Verdict
from fedward.errors import LabelRefused, SeriesRefused, SourceError, Stopped
from fedward.imaging.cache import Cache
from fedward.imaging.grid import Grid, ModelImage, source_grid
from fedward.imaging.patches import TrainingCase
from fedward.imaging.splits import Part, assign, read_split_key
from fedward.settings.job import TrainingJob
from fedward.settings.site import SiteSettings
from fedward.settings.tasks import AnyTask, is_of_images

ALL_PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Case:
    """One labelled series of a site, prepared on its disk.

    Attributes:
        patient_key: For the site's own use.
        series_instance_uid: The series.
        part: What the site uses it for.
        cache: Where it is prepared.
        key: Its name there.
        image_class: Where a job classifies whole images, the place of the image's class among the task's; else 0.
    """

    patient_key: str
    series_instance_uid: str
    part: Part
    cache: Cache
    key: str
    image_class: int = 0

    def image(self) -> ModelImage:
        """Give the image on the model grid."""
        return ModelImage(self.cache.image(self.key), self.cache.geometry(self.key).model_affine)

    def truth(self) -> NDArray[np.uint8]:
        """Give the label on the series' own grid, shape ``(slice, row, column)``."""
        return self.cache.truth(self.key)

    @property
    def affine(self) -> NDArray[np.float64]:
        """4x4, voxel of the series' own grid to LPS mm."""
        return self.cache.geometry(self.key).affine

    @property
    def source(self) -> Grid:
        """The series' own grid, to bring predictions back to."""
        geometry = self.cache.geometry(self.key)
        return source_grid(geometry.shape, geometry.affine)


@dataclass(frozen=True, eq=False)
class SiteData:
    """A site's cases for one job.

    Attributes:
        name: The site's name; it names the site's stream of seeded randomness.
        cases: All prepared cases, by patient and series.
        patients: Patients with a labelled series of the job's modality, in whichever part.
        refused: Series and labels that cost their case, for the local console.
        memory_cases: So many training cases are held in memory, the others stay on the disk.
    """

    name: str
    cases: tuple[Case, ...]
    patients: int
    refused: tuple[Verdict, ...] = ()
    memory_cases: int = 200

    @classmethod
    def open(
        cls,
        site: SiteSettings,
        job: TrainingJob,
        *,
        parts: Collection[Part] = ALL_PARTS,
        should_stop: Callable[[], bool] = lambda: False,
        progress: Callable[[int, int], None] | None = None,
    ) -> SiteData:
        """Open a site's sources and prepare the cases of the asked ``parts`` below ``site.state/cache``.

        Args:
            site: The site's own settings: sources, split, memory.
            job: The job's input and classes.
            parts: Parts that are not asked for are left empty and cost no time.
            should_stop: Asked before each case.
            progress: Called with the cases done and their number.

        Raises:
            SourceError: a source cannot be read, or ``no_labelled_case``.
            Stopped: ``aborted``.
            StoreError: the disk cannot take the prepared cases.
        """
        sources = [open_source(source) for source in site.data]
        studies = [study for source in sources for study in source.studies()]
        refused = tuple(verdict for source in sources for verdict in source.refused)
        data = cls.prepare(studies, site, job, parts=parts, should_stop=should_stop, progress=progress)
        return replace(data, refused=refused + data.refused)

    @classmethod
    def prepare(
        cls,
        studies: Iterable[StudyCase],
        site: SiteSettings,
        job: TrainingJob,
        *,
        parts: Collection[Part] = ALL_PARTS,
        should_stop: Callable[[], bool] = lambda: False,
        progress: Callable[[int, int], None] | None = None,
    ) -> SiteData:
        """Do the same for studies that are already listed. A refused series or label costs its own case only."""
        key = read_split_key(site.state)
        namings = tuple(source.classes for source in site.data)
        classes = () if is_of_images(job.task) else job.task.label_classes
        cache = Cache(site.state / "cache", job.input, classes, namings=namings)
        labelled = sorted(
            (study for study in studies if _is_labelled(study, job.task) and study.modality == job.input.modality),
            key=lambda study: (site.patient_of(study.patient_key), study.series_instance_uid),
        )
        refused = _of_no_asked_class(labelled, job.task)
        unknown = {verdict.series_instance_uid for verdict in refused}
        found: list[tuple[StudyCase, Case]] = []
        for study in labelled:
            if study.series_instance_uid in unknown:
                continue
            patient = site.patient_of(study.patient_key)
            part = assign(patient, key=key, split=site.split)
            name = cache.key(study.series_instance_uid, study.files)
            image_class = job.task.label_classes.index(study.image_class) if is_of_images(job.task) else 0
            found.append((study, Case(patient, study.series_instance_uid, part, cache, name, image_class)))
        cache.claim({case.key for _, case in found})
        asked = [(study, case) for study, case in found if case.part in parts]
        for number, (study, case) in enumerate(asked, start=1):
            if should_stop():
                raise Stopped("aborted", f"preparing was asked to end after {number - 1} of {len(asked)} cases")
            refused += _prepare(study, case, classes)
            if progress:
                progress(number, len(asked))
        lost = {verdict.series_instance_uid for verdict in refused}
        usable = [case for _, case in found if case.series_instance_uid not in lost]
        if not usable:
            raise SourceError("no_labelled_case", _nothing_found(site, job, refused))
        return cls(
            name=site.name,
            cases=tuple(case for case in usable if case.part in parts),
            patients=len({case.patient_key for case in usable}),
            refused=tuple(refused),
            memory_cases=site.compute.memory_cases,
        )

    @property
    def train(self) -> tuple[Case, ...]:
        """The cases that train."""
        return self._part("train")

    @property
    def validation(self) -> tuple[Case, ...]:
        """The cases that choose the best model."""
        return self._part("validation")

    @property
    def test(self) -> tuple[Case, ...]:
        """The cases that no training and no choice ever sees."""
        return self._part("test")

    @cached_property
    def training_cases(self) -> tuple[TrainingCase, ...]:
        """The training part, ready for patches: the first ones in memory, the others mapped from the disk.

        Raises:
            SourceError: ``no_labelled_case``: all labelled patients fell to validation and test.
        """
        if not self.train:
            raise SourceError("no_labelled_case", f"none of {self.patients} labelled patients is for training")
        return tuple(
            replace(case.cache.training_case(case.key, mapped=index >= self.memory_cases), image_class=case.image_class)
            for index, case in enumerate(self.train)
        )

    @property
    def training_patients(self) -> Mapping[str, tuple[TrainingCase, ...]]:
        """The training part by patient key.

        Raises:
            SourceError: ``no_labelled_case``.
        """
        grouped: dict[str, list[TrainingCase]] = {}
        for case, prepared in zip(self.train, self.training_cases, strict=True):
            grouped.setdefault(case.patient_key, []).append(prepared)
        return {key: tuple(cases) for key, cases in grouped.items()}

    def only(self, patient_keys: Collection[str]) -> SiteData:
        """Give the same without the cases of any other patient."""
        cases = tuple(case for case in self.cases if case.patient_key in patient_keys)
        return replace(self, cases=cases, patients=len({case.patient_key for case in cases}))

    def _part(self, part: Part) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.part == part)


def _is_labelled(study: StudyCase, task: AnyTask) -> bool:
    return bool(study.image_class) if is_of_images(task) else study.has_label


def _of_no_asked_class(studies: Iterable[StudyCase], task: AnyTask) -> list[Verdict]:
    """Give the verdicts on whole images whose class in the site's table is none of the job's."""
    if not is_of_images(task):
        return []
    asked = task.label_classes
    return [
        replace(
            study.verdict,
            accepted=False,
            code="unknown_class",
            sentence=f"its class in the site's table is {study.image_class}, the job has {list(asked)}",
        )
        for study in studies
        if study.image_class not in asked
    ]


def _prepare(study: StudyCase, case: Case, classes: tuple[str, ...]) -> list[Verdict]:
    """Prepare a case unless it is there, for ``classes`` () without a label; give the verdict that costs it, if any."""
    if case.cache.holds(case.key):
        return []
    try:
        volume = study.read()
        label = study.read_label(classes, volume) if classes else Label(np.zeros(volume.array.shape, np.uint8), ())
        if label is None:
            raise LabelRefused("unknown_class", f"the label has none of {list(classes)}")
    except (SeriesRefused, LabelRefused) as error:
        return [replace(study.verdict, accepted=False, code=error.code, sentence=error.detail)]
    case.cache.add(case.key, volume, label)
    return []


def _nothing_found(site: SiteSettings, job: TrainingJob, refused: list[Verdict]) -> str:
    causes = sorted({verdict.code for verdict in refused})
    reason = f"; {len(refused)} refused: {', '.join(causes)}" if refused else ""
    return f"{site.name} has no labelled {job.input.modality} series with {list(job.task.label_classes)}{reason}"
