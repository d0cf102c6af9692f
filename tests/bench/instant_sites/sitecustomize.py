"""Python imports this in every process of the federation; the job process of a site gets a hospital without work."""

import sys

if "app.client.worker_process" in " ".join(sys.orig_argv):
    from engine_parts import InstantHospital

    from fedward_flare import executors

    executors.Hospital = InstantHospital
