"""Runs in a peer's own environment (`make bench-peers`): the table's work done by one public package, as JSON on standard output.

    PYTHON peer_worker.py bands ezmsg|timeflux|pynm FILE.npz     band powers of the stream in FILE, µs a hop and mean alpha
    PYTHON peer_worker.py phase echt|phastimate FILE.npz         phase at the samples asked for, saved to FILE.out.npy

Knows nothing of eegloop; NumPy and the one package only. Each adapter uses the package as its documentation shows for a live
stream, and gives band powers in µV² where the package's own unit allows.
"""

import json
import logging
import sys
import time
import warnings

import numpy as np

BANDS = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "gamma": (30, 45)}
CHUNK_S, HOP_S, WINDOW_S = 0.02, 0.1, 1.0


def ezmsg(n_channels, rate_hz):
    """Butterworth band pass and stop, then BandPower; a band's mean two-sided density times twice its 1 Hz bins."""
    from ezmsg.sigproc.bandpower import BandPowerSettings, BandPowerTransformer
    from ezmsg.sigproc.butterworthfilter import ButterworthFilterSettings, ButterworthFilterTransformer
    from ezmsg.sigproc.spectrogram import SpectrogramSettings
    from ezmsg.sigproc.spectrum import SpectralTransform, WindowFunction
    from ezmsg.util.messages.axisarray import AxisArray

    passing = ButterworthFilterTransformer(ButterworthFilterSettings(axis="time", order=2, cuton=1, cutoff=45, coef_type="sos"))
    notch = ButterworthFilterTransformer(
        ButterworthFilterSettings(axis="time", order=2, cuton=50.8, cutoff=49.2, coef_type="sos")
    )
    spectrogram = SpectrogramSettings(
        window_dur=WINDOW_S, window_shift=HOP_S, window=WindowFunction.HANNING, transform=SpectralTransform.REL_POWER
    )
    power = BandPowerTransformer(BandPowerSettings(spectrogram_settings=spectrogram, bands=list(BANDS.values())))
    channels = AxisArray.CoordinateAxis(data=np.arange(n_channels).astype(str), dims=["ch"])
    bins = BANDS["alpha"][1] - BANDS["alpha"][0] + 1  # both ends are taken
    state = {"t": 0.0}

    def step(x):
        axes = {"time": AxisArray.TimeAxis(fs=rate_hz, offset=state["t"]), "ch": channels}
        state["t"] += len(x) / rate_hz
        out = power(notch(passing(AxisArray(x, dims=["time", "ch"], axes=axes, key="eeg"))))
        if out is None or not out.data.size:
            return None
        by_band = np.moveaxis(out.data, out.get_axis_idx("freq"), -1).reshape(-1, n_channels, len(BANDS))
        return float(by_band[-1, :, 2].mean()) * 2 * bins

    return step


def timeflux(n_channels, rate_hz):
    """IIRFilter twice, SampleWindow, Welch of one segment, Bands (a sum over bins of 1 Hz, both ends taken)."""
    import pandas as pd
    from timeflux.core.io import Port
    from timeflux.nodes.window import SampleWindow
    from timeflux_dsp.nodes.filters import IIRFilter
    from timeflux_dsp.nodes.spectral import Bands, Welch

    names = [f"E{i}" for i in range(n_channels)]
    passing = IIRFilter(rate=rate_hz, frequencies=[1, 45], filter_type="bandpass", order=2)
    notch = IIRFilter(rate=rate_hz, frequencies=[49.2, 50.8], filter_type="bandstop", order=2)
    window = SampleWindow(length=int(WINDOW_S * rate_hz), step=int(HOP_S * rate_hz))
    welch = Welch(rate=rate_hz, nperseg=int(WINDOW_S * rate_hz), noverlap=0, detrend=False)
    bands = Bands(bands={name: [low, high - 0.5] for name, (low, high) in BANDS.items()})
    state = {"t": pd.Timestamp("2026-01-01")}
    period = pd.Timedelta(seconds=1 / rate_hz)

    def through(node, data):
        # As its scheduler does: fresh ports each turn. Nodes hand their input port on as their output.
        node.i, node.o = Port(), Port()
        node.i.data, node.i.meta = data, {"rate": rate_hz}
        node.update()
        return node.o.data

    def step(x):
        index = pd.date_range(state["t"], periods=len(x), freq=period)
        state["t"] = index[-1] + period
        second = through(window, through(notch, through(passing, pd.DataFrame(x, index, names))))
        if second is None or not len(second):
            return None
        through(bands, through(welch, second))
        return float(np.mean(bands.o_alpha.data.to_numpy()[-1]))

    return step


def pynm(n_channels, rate_hz):
    """py_neuromodulation's FFT band features with its own filters, on the newest second every hop, as it does live."""
    logging.disable(logging.INFO)
    import py_neuromodulation as nm
    from py_neuromodulation.stream.data_processor import DataProcessor

    settings = nm.NMSettings.get_fast_compute()
    settings.frequency_ranges_hz = {name: list(edges) for name, edges in BANDS.items()}
    settings.sampling_rate_features_hz = 1 / HOP_S
    settings.segment_length_features_ms = WINDOW_S * 1000
    settings.preprocessing = ["notch_filter", "preprocessing_filter"]
    filters = settings.preprocessing_filter
    filters.bandstop_filter = filters.lowpass_filter = filters.highpass_filter = False
    filters.bandpass_filter, filters.bandpass_filter_settings = True, [1, 45]
    settings.postprocessing.feature_normalization = False
    channels = nm.utils.channels.get_default_channels_from_data(np.zeros((n_channels, int(rate_hz * 2))), car_rereferencing=False)
    processor = DataProcessor(sfreq=rate_hz, settings=settings, channels=channels, line_noise=50, verbose=False)
    n, hop = int(WINDOW_S * rate_hz), int(HOP_S * rate_hz)
    ring, state = np.zeros((n_channels, n)), {"since": 0}

    def step(x):
        ring[:, : -len(x)] = ring[:, len(x) :]
        ring[:, -len(x) :] = x.T
        state["since"] += len(x)
        if state["since"] < hop:
            return None
        state["since"] -= hop
        features = processor.process(ring.copy())
        return float(np.mean([value for name, value in features.items() if "fft_alpha" in name]))

    return step


def bands(adapter, path):
    given = np.load(path)
    x, rate_hz = given["x"], float(given["rate_hz"])
    k, skip = int(CHUNK_S * rate_hz), int(2 / CHUNK_S)
    chunks = [x[i : i + k] for i in range(0, len(x) - k + 1, k)]
    step = {"ezmsg": ezmsg, "timeflux": timeflux, "pynm": pynm}[adapter](x.shape[1], int(rate_hz))
    alpha, started_s = [], 0.0
    for i, chunk in enumerate(chunks):
        if i == skip:
            started_s = time.perf_counter()
        value = step(chunk)
        if value is not None and i >= 2 * skip:
            alpha.append(value)
    hops = (len(chunks) - skip) * CHUNK_S / HOP_S
    took_s = time.perf_counter() - started_s
    return {"us_per_hop": took_s / hops * 1e6, "alpha": float(np.mean(alpha)) if alpha else None}


def phase(method, path):
    """Phase (rad) at each sample of `at`, from raw samples up to and with it."""
    given = np.load(path)
    x, rate_hz, (low, high), at = given["x"], float(given["rate_hz"]), given["band_hz"], given["at"]
    out, started_s = np.full(len(at), np.nan), 0.0
    if method == "echt":
        from meegkit.phase import ECHT

        n = round(rate_hz)
        estimator = ECHT(low, high, rate_hz, n_fft=n)
        started_s = time.perf_counter()
        for j, i in enumerate(at):
            if i + 1 >= n:
                window = x[i + 1 - n : i + 1, np.newaxis]
                out[j] = np.angle(np.ravel(estimator.fit_transform(window) if j == 0 else estimator.transform(window))[-1])
    else:
        # The package answers whether a phase is near a target; its own steps give the phase itself.
        from EEGPhasePy.estimators import PHASTIMATE
        from scipy import signal
        from statsmodels.regression.linear_model import yule_walker

        n, taps = round(0.72 * rate_hz), round(0.2 * rate_hz) // 2 * 2 + 1
        fir = signal.firwin(taps, [low, high], pass_zero=False, fs=rate_hz)
        estimator = PHASTIMATE(fir, fir, int(rate_hz), window_len=720, window_edge=64, ar_order=30)
        edge = int(estimator.window_edge / 1000 * rate_hz)
        order = max(4, round(30 * rate_hz / 1000))  # 30 at the published 1 kHz
        started_s = time.perf_counter()
        for j, i in enumerate(at):
            if i + 1 < n:
                continue
            filtered = signal.filtfilt(fir, [1.0], x[i + 1 - n : i + 1] - x[i + 1 - n : i + 1].mean())[edge:-edge]
            coefficients, _ = yule_walker(filtered, order)
            ahead = estimator._ar_forecast(filtered, coefficients, 2 * edge)
            out[j] = np.angle(signal.hilbert(np.concatenate([filtered, ahead]))[-edge - 1])
    took_s = time.perf_counter() - started_s
    np.save(path + ".out.npy", out)
    return {"us_per_estimate": took_s / len(at) * 1e6}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    mode, name, file = sys.argv[1:4]
    print(json.dumps(bands(name, file) if mode == "bands" else phase(name, file)))
