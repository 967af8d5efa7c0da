"""What senders call a volt and its parts, what they call a channel, and what that means here: µV and BIDS kinds."""

from __future__ import annotations

import re

_PREFIXES = {"": 1e6, "m": 1e3, "milli": 1e3, "u": 1.0, "µ": 1.0, "μ": 1.0, "micro": 1.0, "n": 1e-3, "nano": 1e-3}
_UNIT = re.compile(r"(?P<prefix>milli|micro|nano|[muµμn]?)[ _-]?(?P<base>volts?|v)")
_EXPONENTS = {"-3": 1e3, "-6": 1.0, "-9": 1e-3}  # MNE-LSL writes the power of ten of a volt

_KIND_WORDS = {"eeg": "eeg", "eog": "eog", "emg": "emg"}
_AS_EEG = re.compile(r"^eeg[\s_.:-]+(?=\D)", re.IGNORECASE)  # hospitals' files call everything EEG: "EEG EKG1-REF", "EEG LOC-REF"
_EOG = re.compile(r"^(eog|[hvlr]eog|veo|heo|eye|[lr]oc\b)", re.IGNORECASE)
_EMG = re.compile(r"^(emg|chin|jaw)", re.IGNORECASE)
_MISC = re.compile(
    r"^(acc|gyr|mag|aux|right aux|ppg|optic|marker|trig|stim|status|ecg|ekg|temp|resp|gsr|eda|batt|counter|"
    r"interpolated|raw_cq|(cq|eq|mot|pow)[._]|photic|spo2|sao2|osat|plet|pulse|nasal|airflow|snor|abdo|thor|(erg|dc) ?\d|(ibi|bursts|suppr)$)",
    re.IGNORECASE,
)


def microvolts_per(unit: str) -> float | None:
    """Microvolts in one `unit` ("V", "mV", "µV", "nV" and their spellings); None if it is not known.

    A capital M is refused: "MV" has been used for both milli- and megavolt.
    """
    text = unit.strip().replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")
    if text in _EXPONENTS:
        return _EXPONENTS[text]
    if text[:1] == "M" and text[1:2] in ("V", "v"):
        return None
    match = _UNIT.fullmatch(text.lower())
    return _PREFIXES[match["prefix"]] if match else None


def channel_kind(label: str, type_word: str = "", stream_is_eeg: bool = True) -> str:
    """BIDS channel type in lower case: what the sender says, else what the label suggests."""
    word = type_word.strip().lower()
    if word and word not in _KIND_WORDS:
        return "misc"
    if word in ("eog", "emg"):
        return word
    label = _AS_EEG.sub("", label.strip())
    if _EOG.match(label):
        return "eog"
    if _EMG.match(label):
        return "emg"
    if _MISC.match(label):
        return "misc"
    return "eeg" if stream_is_eeg or word == "eeg" else "misc"
