"""Prove: restore two copies of a recovery point at once; examine A offline on a helper, boot B on a scratch instance.

One step: a copy that was replayed or booted once proves nothing the second time, so a repeated step makes both anew.
"""

import secrets
from concurrent.futures import ThreadPoolExecutor

from drtest.drill.boot import boot, boot_with_blanks
from drtest.drill.examine import examine
from drtest.drill.guests import NEEDS_ITS_VOLUMES
from drtest.drill.points import Point, Source
from drtest.drill.restore import drop_copies
from drtest.drill.site import Site
from drtest.verdict.evidence import Copy


def prove(source: Source, *, point: Point, boots: bool, site: Site) -> bool:
    """Restore and look at one recovery point; what was seen goes into the evidence.

    Args:
        source: whose recovery point it is.
        point: the recovery point.
        boots: whether copy B is needed: a data volume alone is proven by copy A.
        site: where.

    Returns:
        True: what was needed was looked at, whatever was seen.

    Raises:
        DrtestError: a copy could not be restored or looked at.
    """
    site.stage("restore", f"{point.name}: two copies")
    drop_copies(point, site=site)
    token = secrets.token_hex(3)
    # What a killed run saw of this point was of copies that are gone.
    site.observe("proof", {"token": token}, copy=Copy.RUNNER, command="two new copies", point=point)
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix=f"prove-{site.server}") as lines:
        offline = lines.submit(examine, source, point=point, token=token, site=site)
        booted = lines.submit(boot, source, point=point, token=token, site=site) if boots else None
    # Both have ended; the first failure is the step's, after both have left their evidence.
    offline.result()
    came_up = booted is None or booted.result()
    if not came_up and len(point.snapshots) > 1 and source.places and site.os in NEEDS_ITS_VOLUMES:
        boot_with_blanks(source, point=point, token=secrets.token_hex(3), site=site)
    return True
