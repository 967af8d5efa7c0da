"""Makes electrode_positions.tsv once, with MNE: template positions of the 10-05 system in the head (CapTrak) frame, in meters.

Run from the repository root: `python -m records.make_electrode_positions`. The service itself never imports MNE for this.
"""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np


def main() -> None:
    montage = mne.channels.make_standard_montage("colin27_1005")
    to_head = mne.channels.compute_native_head_t(montage)
    positions = montage.get_positions()
    rows = [("NAS", positions["nasion"]), ("LPA", positions["lpa"]), ("RPA", positions["rpa"])]
    rows += sorted(positions["ch_pos"].items())
    lines = ["name\tx\ty\tz"]
    for name, native_m in rows:
        x, y, z = mne.transforms.apply_trans(to_head, np.asarray(native_m))
        lines.append(f"{name}\t{x:.5f}\t{y:.5f}\t{z:.5f}")
    Path(__file__).with_name("electrode_positions.tsv").write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
