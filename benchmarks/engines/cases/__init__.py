"""The benchmark cases, in the order of the page."""

from benchmarks.engines.case import Case
from benchmarks.engines.cases import (
    accumulation,
    amp,
    clipping,
    config_load,
    ema,
    first_iteration,
    fused,
    gpu,
    imports,
    loading,
    long_run,
    norms,
    resume,
    saving,
    segmentation,
    tiny,
    validation,
    waiting,
)

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        tiny.CASE,
        norms.CASE,
        fused.CASE,
        ema.CASE,
        clipping.CASE,
        accumulation.CASE,
        amp.CASE,
        loading.CASE_0,
        loading.CASE_2,
        validation.CASE,
        validation.CASE_RESNET,
        segmentation.CASE,
        waiting.CASE,
        long_run.CASE,
        imports.CASE,
        first_iteration.CASE,
        config_load.CASE,
        saving.CASE,
        resume.CASE,
        gpu.CASE,
    )
}
