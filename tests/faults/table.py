"""The rows of the fault harness."""

import signal

from tests.faults import control, damage, disk, endurance, hostile, malice, ranks, reference
from tests.faults.row import Row
from tests.faults.trials import interrupting

_MILLION = 1_000_000
_SHORT_RUN = 20_000

_ALL = (
    Row(
        "kill",
        "SIGKILL at random instants, twice a run, resumed",
        "bit-equal",
        interrupting(signal.SIGKILL),
        long=range(1000),
        short=range(32),
        planted=control.KILLED,
    ),
    Row(
        "sigterm",
        "SIGTERM at random instants, twice a run, saves and validations included, resumed",
        "bit-equal",
        interrupting(signal.SIGTERM),
        long=range(200),
        short=range(12),
        planted=control.TOLD,
    ),
    Row(
        "sigint",
        "SIGINT at random instants, twice a run, saves and validations included, resumed",
        "bit-equal",
        interrupting(signal.SIGINT),
        long=range(200),
        short=range(12),
        planted=control.STOPPED,
    ),
    Row(
        "death",
        "process death at every call of a save, writes torn too",
        "left a whole checkpoint",
        disk.begin_death,
        long=range(24),
        short=range(2),
        planted=control.DEAD,
        controls=range(4),
    ),
    Row(
        "damage",
        "1,000 cuts, 10,000 flipped bits, 1,000 zeroed pages",
        "named",
        damage.begin_damage,
        long=range(120),
        short=range(0, 120, 10),
        planted=control.DAMAGED,
        controls=range(0, 120, 10),
    ),
    Row(
        "disk",
        "ENOSPC, EIO, EACCES, EROFS, EDQUOT at each call of a run, once and from there on",
        "went on or stopped cleanly, no checkpoint lost, resumed bit-equal",
        disk.begin_disk,
        long=range(3700),
        short=range(0, 3600, 103),
        planted=control.STARVED,
        controls=range(0, 2500, 29),
    ),
    Row(
        "malice",
        "malicious checkpoints and configs under an audit hook",
        "executed nothing, opened no socket, wrote nowhere else",
        malice.begin_malice,
        long=range(500),
        short=range(0, 500, 7),
        planted=dict(malice.planted()),
        controls=range(60),
    ),
    Row(
        "hostile",
        "hostile archives",
        "refused within 1 s and 200 MB",
        hostile.begin_hostile,
        long=range(hostile.COUNT),
        short=range(0, hostile.COUNT, 6),
        planted=control.UNWARY,
        controls=range(hostile.COUNT),
    ),
    Row(
        "endurance",
        "a tiny model's long run",
        "iterations, memory and time of an iteration flat after 10,000",
        endurance.begin_endurance,
        long=range(_MILLION, _MILLION + 1),
        short=range(_SHORT_RUN, _SHORT_RUN + 1),
        planted={"each iteration keeps a kilobyte": endurance.leak, "steps grow longer": endurance.slow_down},
        controls=range(_SHORT_RUN, _SHORT_RUN + 1),
        lasts=True,
    ),
    Row(
        "ranks",
        "8 processes, one killed",
        "all ended within 10 s, resumed from what was committed, equal",
        ranks.begin_ranks,
        long=range(100),
        short=range(3),
        planted={
            "ranks wait when another is gone": ranks.hold_on,
            "all resume with one's dice": ranks.forget_ranks,
            "what was committed is passed over": ranks.forget_commits,
        },
        controls=range(5),
    ),
    Row(
        "reference",
        "checkpoints of the reference engines of both generations, without trust",
        "loaded with every tensor equal",
        reference.begin_reference,
        long=range(reference.COUNT),
        short=range(reference.COUNT),
        planted=control.BENT,
        controls=range(reference.COUNT),
    ),
)
ROWS: dict[str, Row] = {row.name: row for row in _ALL}
