"""The one error tree of fedward.

::

    FedwardError
    ├── SettingsError      a job, site or federation file does not say what it must
    ├── SourceError        a folder or file of the hospital cannot be read as data
    ├── SeriesRefused      a series is not a volume that can be trusted
    ├── LabelRefused       a label does not fit its image
    ├── ModelError         weights or input that are not this network's
    ├── UpdateRefused      an update that must not enter a sum
    ├── RoundFailed        a round ended without enough hospitals
    ├── SumRefused         a message of the encrypted sum that must not be followed
    ├── MessageWithheld    an answer of this hospital that must not leave as it is
    ├── IdentityError      a signature, certificate or roster entry that cannot be trusted
    ├── JobRefused         the site's own rules say no to a job
    ├── ReleaseRefused     a release that must not be installed or run
    ├── StoreError         the site's database or disk cannot take what it must keep
    ├── FederationError    the federation cannot be started, reached or stopped
    └── Stopped            the work was asked to end before it was done

Two audiences: ``str(error)`` is a stable code and may leave the hospital. ``error.detail`` is a sentence for the
person in front of the local console: what was expected, what was found, where to look. It never holds a patient's
name or id, and it never leaves the site.
"""

from __future__ import annotations

from typing import ClassVar


class FedwardError(Exception):
    """An expected failure with a stable code.

    Args:
        code: One of the class's ``codes``.
        detail: What was expected, what was found and where; for the local console only.
    """

    codes: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, code: str, detail: str) -> None:
        if code not in self.codes:
            raise ValueError(f"{type(self).__name__} has no code {code!r}; it has {sorted(self.codes)}")
        super().__init__(code)
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type[FedwardError], tuple[str, str]]:
        """Travel between processes with both audiences' texts."""
        return type(self), (self.code, self.detail)


class SettingsError(FedwardError):
    """A settings file that does not say what it must; ``detail`` lists every fault, one a line."""

    codes = frozenset({"missing_file", "not_toml", "invalid_settings", "missing_extra"})


class SourceError(FedwardError):
    """A folder or file of the hospital that cannot be read as data."""

    codes = frozenset({"missing_source", "empty_source", "unreadable_source", "no_labelled_case", "cannot_write"})


class SeriesRefused(FedwardError):
    """A series that is not a volume that can be trusted."""

    codes = frozenset(
        {
            "missing_slice",
            "duplicate_position",
            "irregular_spacing",
            "gantry_tilt",
            "mixed_orientation",
            "mixed_geometry",
            "mixed_frame_of_reference",
            "mixed_pixel_format",
            "mixed_patient",
            "mixed_study",
            "mixed_modality",
            "several_volumes",
            "localizer",
            "not_a_volume",
            "multi_frame",
            "mosaic",
            "unsupported_modality",
            "unsupported_transfer_syntax",
            "unsupported_pixel_format",
            "invalid_rescale",
            "missing_attribute",
            "invalid_attribute",
            "unreadable",
        }
    )


class LabelRefused(FedwardError):
    """A label that does not fit its image."""

    codes = frozenset(
        {
            "unknown_reference",
            "wrong_geometry",
            "wrong_frame_of_reference",
            "unknown_class",
            "overlapping_classes",
            "several_labels",
            "fractional_label",
            "open_contour",
            "oblique_contour",
            "unsupported_label",
            "unreadable_label",
        }
    )


class ModelError(FedwardError):
    """Weights or input that are not this network's."""

    codes = frozenset({"wrong_layout", "wrong_input"})


class UpdateRefused(FedwardError):
    """An update that must not enter a sum."""

    codes = frozenset(
        {
            "not_finite",
            "wrong_layout",
            "norm_exceeded",
            "weight_invalid",
            "weight_changed",
            "wrong_metrics",
            "malformed_message",
        }
    )


class RoundFailed(FedwardError):
    """A round that ended without enough hospitals."""

    codes = frozenset(
        {"too_few_sites", "too_few_votes", "too_few_shares", "zero_weight", "sum_unreadable", "not_all_agreed"}
    )


class SumRefused(FedwardError):
    """A message or a parameter of the encrypted sum that must not be followed."""

    codes = frozenset(
        {
            "overflow_possible",
            "rounding_too_coarse",
            "malformed_message",
            "wrong_session",
            "wrong_round",
            "other_context",
            "unknown_site",
            "wrong_sender",
            "weak_key",
            "repeated_set_up",
            "own_set_up_changed",
            "set_ups_taken",
            "set_up_unfinished",
            "too_few_peers",
            "share_misdirected",
            "repeated_share",
            "share_altered",
            "key_set_used",
            "wrong_vector",
            "second_vector",
            "late_vector",
            "own_vector_missing",
            "too_few_survivors",
            "second_survivor_set",
            "too_few_votes",
            "both_shares_asked",
            "already_opened",
            "wrong_shares",
            "broken_commitment",
            "wrong_context",
        }
    )


class MessageWithheld(FedwardError):
    """An answer of this hospital that must not leave as it is: it holds what its kind of message has no field for."""

    codes = frozenset({"unknown_kind", "unknown_field", "unfit_field"})


class IdentityError(FedwardError):
    """A signature, certificate or roster entry that cannot be trusted."""

    codes = frozenset(
        {
            "not_canonical",
            "bad_signature",
            "untrusted_certificate",
            "expired_certificate",
            "unlisted_signer",
            "revoked_signer",
            "wrong_name",
            "wrong_role",
            "unreadable_key",
            "no_roster",
        }
    )


class JobRefused(FedwardError):
    """The site's own rules say no to a job."""

    codes = frozenset(
        {
            "wrong_project",
            "not_invited",
            "expired_job",
            "repeated_job",
            "kind_not_allowed",
            "network_not_allowed",
            "exchange_mode_not_allowed",
            "non_private_not_allowed",
            "local_models_not_allowed",
            "not_all_agreed",
            "too_few_sites",
            "too_few_organisations",
            "too_few_patients",
            "unknown_patients",
            "too_many_rounds",
            "too_many_steps",
            "patch_too_large",
            "norm_bound_too_large",
            "clip_norm_too_large",
            "sampling_rate_too_large",
            "too_many_metric_releases",
            "delta_too_large",
            "privacy_spent",
            "model_changed",
            "start_not_installed",
            "wrong_start",
            "other_task",
            "wrong_round",
            "unknown_job",
            "budget_spent",
            "update_changed",
            "round_is_over",
            "valid_too_long",
            "too_many_jobs",
            "awaiting_approval",
            "not_approved",
            "foreign_model",
            "unsigned_job",
            "unexpected_file",
            "linked_file",
            "custom_code",
            "file_too_large",
            "not_plain_json",
            "class_not_allowed",
            "unexpected_configuration",
            "topic_not_allowed",
            "not_authorised",
        }
    )


class ReleaseRefused(FedwardError):
    """A release that must not be installed or run."""

    codes = frozenset(
        {
            "missing_part",
            "altered_model",
            "altered_passport",
            "altered_signature",
            "untrusted_signer",
            "wrong_subject",
            "revoked_signer",
            "expired_certificate",
            "wrong_project",
            "unfinished_job",
            "not_witnessed",
            "older_release",
            "already_installed",
            "not_installed",
            "no_active_model",
            "wrong_modality",
            "no_lesion_source",
            "nothing_to_calibrate",
            "norms_missing",
            "other_task",
            "wrong_descent",
            "wrong_verdict",
            "gate_missing",
            "gate_blocked",
        }
    )


class StoreError(FedwardError):
    """The site's database or disk cannot take what it must keep."""

    codes = frozenset(
        {
            "no_space",
            "cannot_write",
            "cannot_read",
            "database_failed",
            "newer_schema",
            "unsafe_permissions",
            "unreadable_key",
            "broken_ledger",
            "ledger_rolled_back",
            "ledger_terms",
            "broken_audit",
            "audit_rolled_back",
        }
    )


class FederationError(FedwardError):
    """The federation cannot be started, reached or stopped."""

    codes = frozenset(
        {
            "workdir_in_use",
            "workdir_not_ours",
            "port_in_use",
            "start_failed",
            "not_running",
            "not_reachable",
            "unknown_site",
            "too_few_sites",
            "not_allowed",
            "unknown_job",
            "job_failed",
            "provision_failed",
            "kit_missing",
            "kit_without_locks",
        }
    )


class Stopped(FedwardError):
    """The work was asked to end before it was done."""

    codes = frozenset({"aborted"})
