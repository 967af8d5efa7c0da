"""One sabotage for each row of docs/safety-case.md: the change that disables its control, and the test that must turn red."""

from __future__ import annotations

from typing import NamedTuple


class Patch(NamedTuple):
    """In `file` the text `old` (there once) becomes `new`; then `test` (SHORT::name, as the page says it) must fail."""

    row: str
    file: str
    old: str
    new: str
    test: str


JUDGE = "interlock/judge.py"
REFUSALS = "interlock/refusals.py"
LIMITS = "interlock/limits.py"
LOOP = "interlock/loop.py"
LEDGER = "interlock/ledger.py"
SCREENING = "control/screening.py"
PHASES = "control/phases.py"
TICK = "control/tick.py"
ENVELOPE = "control/envelope.py"
SET_OTHERWISE = "PULSES::test_a_stimulator_that_is_set_otherwise_is_not_armed_and_while_armed_it_trips"
QUIET = "        quiet = near and now_ns < self.next_tick_ns + OVERDUE_NS"
_YES_BLOCKS = (
    "            if value and item.highest == 1:\n",
    "            if value > 1 and item.highest == 1:\n",
    "SCREENING::test_every_yes_before_a_session_blocks_until_the_next_answer",
)
_FREED_BY_WALL = (
    "        if boot_id == last_id:\n",
    "        if boot_id == last_id and wall_s < self.highest_wall_s:\n",
    "LEDGER::test_a_clock_set_forward_frees_nothing",
)

PATCHES = (
    Patch("S1", REFUSALS, "(within(c.amplitude_ma, limit.value),", "(c.amplitude_ma <= 1e9,", "JUDGE::test_a_set_above_a_limit_is_refused_and_trips"),
    Patch("S1.prescription", LIMITS, "        if not 0 <= value <= limit:\n", "        if not 0 <= value:\n", "LIMITS::test_each_hard_limit"),
    Patch("S1.prescription", "daemon/sign_command.py", "        _armable(prescription)\n", "", "SIGN::test_what_the_interlock_would_refuse_is_refused_at_the_desk"),
    Patch("S1.down", JUDGE, 'self._settle(f"STOP: {reason}")', "self._go_down(reason, self.rules.ramp_ma_per_s)", "TRIPS::test_stop_is_zero_at_once_and_latches"),
    Patch("S1.ramp", JUDGE, "self._ramp(since_ns if since_ns < LONGEST_STEP_NS else LONGEST_STEP_NS)", "self._ramp(since_ns)", "OUTPUT::test_a_stalled_loop_does_not_jump_up_the_ramp"),
    Patch("S1.envelope", ENVELOPE, "_whole_ua(min(wanted_ma, caps[0][0]))", "_whole_ua(wanted_ma)", "ENVELOPE::test_never_above_any_limit"),
    Patch("S2", LOOP, 'self._do(self.judge.stop(reason or "STOP", at_ns))', "pass", "PROCESS::test_stop_socket_is_fast_and_says_what_the_device_confirmed"),
    Patch("S2.road", LOOP, "        if _inode(self.paths[0]) != self.stop_inode:\n", "        if False:\n", "HEARS::test_without_the_socket_that_stop_comes_through_nothing_flows"),
    Patch("S2.packet", "interlock/wire.py", "        if b'\"stop\"' in packet:\n", "        if False:\n", "WIRE::test_a_stop_is_understood_however_broken"),
    Patch("S2.packet", "interlock/wire.py", "dict(pairs) if len(dict(pairs)) == len(pairs) else None", "dict(pairs)", "WIRE::test_a_stop_is_understood_however_broken"),
    Patch("S2.disk", "interlock/log.py", "        self._wake.set()\n\n    def fault", "        self._wake.set()\n        while self._waiting:\n            time.sleep(0.001)\n\n    def fault", "LOG::test_a_stalled_fsync_delays_nobody_and_is_a_fault_after_a_second"),
    Patch("S2.share", "interlock/__main__.py", "    if share_is_bounded():\n", "    if True:\n", "PRIORITY::test_where_nothing_bounds_its_share_it_is_not_asked_for"),
    Patch("S2.share", "eegloop/real_time.py", "period_us <= 2 * runtime_us < 2 * period_us", "period_us <= 2 * runtime_us", "PRIORITY::test_a_share_is_bounded_by_less_than_the_period_and_no_less_than_half"),
    Patch("S2.stopped", "control/sentences.py", "    elif stim is not None and delivers_by_itself(stim):", "    elif state.armed and stim is not None and delivers_by_itself(stim):", "SESSION::test_output_that_nobody_ordered_is_an_alarm_in_every_phase"),
    Patch("S2.blinded", "control/would_be.py", "_unfinished(would, true) and at_zero and true.halts", "_unfinished(would, true) and true.halts", "WOULD::test_a_stimulator_that_delivers_or_is_gone_is_never_hidden_behind_a_sham_arms_way_down"),
    Patch("S3", JUDGE, "if now_ns >= self.lease_end_ns:", "if now_ns < 0:", "TRIPS::test_the_lease_ends_400_ms_after_the_newest_tick"),
    Patch("S3.clocks", JUDGE, "> CLOCKS_PART_NS:", "> CLOCKS_PART_NS * 10**6:", "TRIPS::test_clocks_parting_trip"),
    Patch("S3.device", "interlock/device.py", "elif self.report_ns - self.mismatch_since_ns >= MISMATCH_NS:", "elif self.report_ns < 0:", "TRIPS::test_wrong_readback_trips_after_half_a_second"),
    Patch("S3.device", "interlock/device.py", "TOLERANCE_SHARE * level_ma", "2 * TOLERANCE_SHARE * level_ma", "EDGES::test_readback_may_be_off_by_a_twentieth_of_a_larger_current"),
    Patch("S3.alone", "simulators/stimulators/simulated.py", "if self.armed and now_ns >= self.lease_end_ns:", "if False:", "DEVICE::test_its_own_lease_ends_and_disarms"),
    Patch("S3.service", "daemon/seat.py", "DEADLINE_S = 0.25", "DEADLINE_S = 1e9", "LATE::test_a_late_tick_renews_no_lease"),
    Patch("S4", "control/watch.py", "if int(biomarkers.grades[column]) != Grade.GOOD:", "if False:", "WATCH::test_only_good_moves_a_dose"),
    Patch("S4", "daemon/loop.py", "before[0] != SCREEN == self.session.phase and self.session.begun_s is None:", "before[0] != SCREEN == self.session.phase and False:", "LINES::test_a_new_session_decides_on_its_own_values_only"),
    Patch("S5", JUDGE, "self.level_ma == 0.0 and not self.account.paid_for(self.rules, self.target_ma, SLICE_LEFT_MS / 2)", "False", "LEDGER::test_nothing_is_given_before_its_debit_is_on_the_disk"),
    Patch("S5.counts", LEDGER, "sum(ago_s < DAY_S for ago_s in begun)", "0", "LEDGER::test_sessions_a_day_are_counted_over_rolling_24_hours"),
    Patch("S5.counts", LEDGER, "(mine.course == rules.course,", "(True,", "LEDGER::test_a_session_goes_on_under_its_own_prescription_only"),
    Patch("S5.counts", LEDGER, "(now_s - mine.first_s < rules.session_ms / 1000,", "(True,", "LEDGER::test_a_session_goes_on_until_its_time_is_over_and_no_longer"),
    Patch("S5.clock", "interlock/__main__.py", "kernel_vouches and SYNCHRONIZED.exists()", "SYNCHRONIZED.exists()", "LEDGER::test_a_mark_of_synchronization_alone_vouches_for_nothing"),
    Patch("S5.clock", LEDGER, "wall_s - self.highest_wall_s if", "wall_s - self.highest_wall_s + 7 * DAY_S if", "LEDGER::test_a_clock_set_back_before_a_reboot_frees_nothing"),
    Patch("S5.session", "interlock/account.py", "if time_left_ms - LONGEST_STEP_NS / MS <= down_s * 1000:", "if False:", "OUTPUT::test_session_time_ends_with_the_planned_ramp_inside_it"),
    Patch("S5.damage", LEDGER, "        book.fault = str(error) or type(error).__name__\n", "        pass\n", "LEDGER::test_a_damaged_ledger_is_found"),
    Patch("S5.anchor", "interlock/anchor.py", 'return here and', 'return True or', "ANCHOR::test_a_ledger_restored_from_a_copy_is_refused"),
    Patch("S5.code", REFUSALS, "(number == given + 1, ", "(True, ", "CODE::test_a_code_for_another_session_or_another_dose"),
    Patch("S5.code", REFUSALS, "(dose_uc == given_uc, ", "(True, ", "CODE::test_a_code_for_another_session_or_another_dose"),
    Patch("S7.windows", "control/exposure.py", "if not at_s + PULSE_GRACE_S < exposure.heard_s)", "if False)", "EXPOSURE::test_from_its_deadline_on_nothing_is_clean_until_a_pulse_is_over_for_sure"),
    Patch("S7.windows", "control/exposure.py", "    return pulsed(exposure, at_s) if at_s - asked_s > ON_TIME_S else exposure\n", "    return exposure\n", "EXPOSURE::test_when_a_late_pulse_came_is_not_clean_either"),
    Patch("S11", "interlock/pulses.py", "        if not value <= limit:\n", "        if False:\n", "SIGNABLE::test_what_is_above_the_table_is_refused_whole"),
    Patch("S11.shot", REFUSALS, "        or another_shot(rules.pulses, device.shot, rules.worn)\n", "", SET_OTHERWISE),
    Patch("S11.shot", JUDGE, "if (other := another_shot(self.rules.pulses, device.shot)) is not None:", "if False and (other := another_shot(self.rules.pulses, device.shot)) is not None:", SET_OTHERWISE),
    Patch("S11.shot", REFUSALS, 'for field in ("burst_pulses", "burst_millihz", "waveform", "current")),', 'for field in ("burst_pulses", "burst_millihz", "waveform")),', SET_OTHERWISE),
    Patch("S11.shot", REFUSALS, 'for field in ("burst_pulses", "burst_millihz", "waveform", "current")),', 'for field in ("burst_pulses", "burst_millihz", "current")),', SET_OTHERWISE),
    Patch("S11.shot", REFUSALS, "another_shot(rules.pulses, device.shot, rules.worn)", "another_shot(rules.pulses, device.shot)", "PULSES::test_of_a_real_stimulator_nothing_is_fired_that_it_has_not_told"),
    Patch("S11.shot", JUDGE, " and (self.device.shot is not None or not self.rules.worn)\n", "\n", "PULSES::test_of_a_real_stimulator_nothing_is_fired_that_it_has_not_told"),
    Patch("S11.shot", "interlock/pulses.py", '"session_pulses", "waveform", "current",', '"session_pulses",', "SIGNABLE::test_a_whitelisted_protocol_goes_by_exact_match"),
    Patch("S11.quiet", LOOP, QUIET, "        quiet = near", "QUIET::test_the_quiet_ends_whatever_pulses_are_asked_for"),
    Patch("S11.quiet", LOOP, QUIET, "        quiet = near", "TURNS::test_a_tick_long_overdue_is_made_also_near_a_pulse"),
    Patch("S11.quiet", LOOP, QUIET, "        quiet = False", "LOOP::test_near_a_pulse_everybody_is_heard_and_nothing_else_is_begun"),
    Patch("S11.quiet", LOOP, "min(due_ns, fire_ns - QUIET_NS)", "due_ns", "TURNS::test_a_pulse_is_waited_for_in_quiet"),
    Patch("S11.quiet", LOOP, "            while boot_ns() < max(fire_ns,", "            while False and boot_ns() < max(fire_ns,", "TURNS::test_near_a_pulse_is_from_exactly_the_quiet_on_and_spun_for_at_the_end"),
    Patch("S11", "interlock/triggers.py", "(self.program.interval_ms * MS - self.period_ns if pauses else 0)", "0", "TRAINS::test_the_pause_runs_from_when_a_late_pulse_was_given"),
    Patch("S11", JUDGE, "            self.last_pulse_ns = trigger.deadline_ns + max(0, error_ns)\n", "", "TRAINS::test_arming_again_the_pause_runs_from_when_a_late_pulse_was_given"),
    Patch("H21", "interlock/triggers.py", "(begins or since_ns >= self.period_ns,", "(True,", "PULSES::test_sooner_than_the_rate_is_a_trip"),
    Patch("S11.quiet", "drivers/stimulators/serial_line.py", "return at_ns is None or", "return True or", "PORT::test_before_a_pulse_nothing_is_asked_and_it_reaches_the_coil_when_the_interlock_counts_it"),
    Patch("S11.quiet", "drivers/stimulators/pulse_port.py", "if not behind_ns <= ON_TIME_NS:", "if False:", "PORT::test_a_pulse_behind_other_bytes_is_a_fault_and_none_is_given"),
    Patch("S11.shot", "drivers/stimulators/pulse_port.py", "self._signed_shape is not None and not self._shape_brought:", "self._signed_shape is not None:", "PORT::test_a_change_at_the_panel_is_named_not_fought_and_over_when_it_is_set_back"),
    Patch("S11.shot", "drivers/stimulators/magventure.py", "            self._untold()\n", "            self._reads.clear()\n", "PORT::test_a_magventure_that_does_not_tell_its_configuration_is_named_and_never_armed"),
    Patch("H22", "interlock/triggers.py", "ready and now_ns - at_ns <= ON_TIME_NS and", "ready and", "PULSES::test_within_a_millisecond_or_skipped_and_counted"),
    Patch("S6", REFUSALS, "(not judge.log_fault, ", "(True, ", "JUDGE::test_arm_needs_the_audit_log"),
    Patch("S6", "interlock/log.py", " or os.fstat(self._file).st_size != self._size:", ":", "LOG::test_a_log_that_is_cut_or_lengthened_in_place_while_it_is_written_is_a_fault_and_stays_one"),
    Patch("S6.recording", PHASES, "    if not inputs.recording_ok:\n        return stop(", "    if False:\n        return stop(", "GUARDS::test_no_record_no_stimulation"),
    Patch("S7", REFUSALS, "(c.block != Block.SENSE or c.amplitude_ma == 0.0,", "(True,", "JUDGE::test_sense_is_zero_and_leaves_the_ceiling_alone"),
    Patch("S7.windows", "control/exposure.py", "clean_from_s=math.inf, commanded_s=t_s)", "commanded_s=t_s)", "EXPOSURE::test_after_a_command_nothing_is_clean_until_zero_is_confirmed_after_it"),
    Patch("S8", JUDGE, "            self.ceiling_ma = c.amplitude_ma\n", "            pass\n", "JUDGE::test_lower_only_ceiling_only_falls_also_over_arming_again"),
    Patch("S8.session", TICK, "    if prescription.authority == Authority.LOWER_ONLY:\n", "    if False:\n", "SESSION::test_lower_only_never_rises_again"),
    Patch("S9", REFUSALS, "(c.nonce == judge.nonce, ", "(True, ", "JUDGE::test_out_of_order_is_refused_without_a_trip"),
    Patch("S10", REFUSALS, "(device.at_rest,", "(True,", "JUDGE::test_arm_needs_confirmed_zero_and_disarmed"),
    Patch("S10.person", TICK, "        return self.inputs.demo and self.prescription.device == \"simulated\"", "        return self.inputs.demo", "SESSION::test_a_demo_on_a_real_stimulator_does_not_arm_itself"),
    Patch("S12", SCREENING, "        if harm:\n", "        if harm > 3:\n", "SCREENING::test_thoughts_of_self_harm_hold_until_a_clinicians_release"),
    Patch("S13", PHASES, "    if not within(inputs.supervised_age_s, tick.prescription.supervision_ms / 1000):\n        return _fall", "    if False:\n        return _fall", "GUARDS::test_without_supervision_it_falls_back"),
    Patch("D4.signature", "interlock/signed.py", "if not verified(public_key, message, signature):", "if False:", "SIGNED::test_altered_after_signing"),
    Patch("D4.certificate", "interlock/keys.py", 'own = {key: {**entry, "scope": SIMULATED} for', "own = {key: entry for", "CERTIFIED::test_a_key_that_nobody_certified_signs_for_the_simulated_one_only"),
    Patch("D4.end", JUDGE, " or signed_no_longer(self)\n", "\n", "VALIDITY::test_the_ramp_down_begins_so_early_that_it_is_over_at_the_prescriptions_end"),
    Patch("D4.end", REFUSALS, "max(judge.wall_offset_ns, judge.reference_ns[0])", "judge.wall_offset_ns", "VALIDITY::test_a_wall_clock_set_back_prolongs_nothing_and_one_set_forward_ends_it"),
    Patch("D4.withdrawn", JUDGE, "        if withdrawn and self.mode", "        if False and self.mode", "VALIDITY::test_a_withdrawn_signature_falls_back_from_wherever_it_is"),
    Patch("D4.withdrawn", "interlock/vouched.py", "        return UNSEEN if", "        return UNSEEN if False and", "VALIDITY::test_a_look_that_does_not_end_is_an_objection_after_ten_seconds"),
    Patch("D4.withdrawn", "interlock/__main__.py", "return rules_for(driver.limits).refusal if", "return None if", "WITHDRAWN::test_what_flows_comes_down_within_seconds"),
    Patch("D4.certificate", "interlock/keys.py", "if not verified(pinned, DOMAIN + payload,", "if False and not verified(pinned, DOMAIN + payload,", "CERTIFIED::test_another_sites_list_is_refused"),
    Patch("D2.closure", "interlock/wire.py", "import json\n", "import http.client\nimport json\n", "PROGRAM::test_import_closure_is_the_allow_list"),
    Patch("H1", REFUSALS, "(within(c.amplitude_ma, limit.value),", "(c.amplitude_ma / 1000 <= limit.value,", "JUDGE::test_a_set_above_a_limit_is_refused_and_trips"),
    Patch("H2", "drivers/stimulators/amplitude.py", "Peak.of_peak(value, unit).value / 2", "Peak.of_peak(value, unit).value", "P24::test_amplitudes_are_peaks_and_pulses_are_balanced"),
    Patch("H3", LEDGER, *_FREED_BY_WALL),
    Patch("H4", "simulators/stimulators/simulated.py", "if self.armed and now_ns >= self.lease_end_ns:", "if False:", "DEVICE::test_its_own_lease_ends_and_disarms"),
    Patch("H5", REFUSALS, "(not ticks or c.tick_ns + LEASE_NS > judge.now_ns,", "(True,", "JUDGE::test_a_tick_from_before_the_arming_is_late"),
    Patch("H6", "control/watch.py", "value=value if math.isfinite(value) else watch.value,", "value=value if math.isfinite(value) else None,", "WATCH::test_one_that_is_frozen_and_drops_out_now_and_then_is_frozen"),
    Patch("H6", "control/watch.py", "    if same_n >= (FROZEN_HOPS_HZ if unit in _SLOW else FROZEN_HOPS):\n", "    if False:\n", "WATCH::test_frozen_is_the_same_number_many_times_and_ends_with_another"),
    Patch("H7", "control/watch.py", "if int(biomarkers.grades[column]) != Grade.GOOD:", "if False:", "WATCH::test_only_good_moves_a_dose"),
    Patch("H8", "control/exposure.py", "    if not zero:\n", "    if False:\n", "EXPOSURE::test_zero_that_is_not_wholly_zero_is_no_zero"),
    Patch("H9", "control/session.py", "    new_ma = min(granted_ma, top_ma) if", "    new_ma = granted_ma if", "SESSION::test_permit_holds_outside_sense_and_on_unusable_values_and_bounds_any_verdict"),
    Patch("H9", "control/controllers/proportional_integral.py", "if error > 0.0 and _in_vain(", "if False and _in_vain(", "OUTLOOK::test_pi_gives_up_on_who_answers_the_other_way_round_before_all_is_reached"),
    Patch("H9", "control/exploration.py", "over=in_vain_n >= target.explore_n", "over=False", "EXPLORATION::test_whatever_the_controller_it_ends_at_the_safe_amplitude_and_stays"),
    Patch("H9", "daemon/loop.py", "self.controller = bounded(controller)", "self.controller = controller", "LINE::test_an_exploration_in_vain_ends_at_zero_whatever_the_controller_would_do"),
    Patch("H10", ENVELOPE, "(standing.block_ma + STEP_MA, Limit(", "(math.inf, Limit(", "DOSE::test_the_tightest_limit_wins_and_says_so"),
    Patch("H11", ENVELOPE, "_whole_ua(min(wanted_ma, caps[0][0]))", "_whole_ua(min(wanted_ma, caps[-1][0]))", "ENVELOPE::test_never_above_any_limit"),
    Patch("H12", SCREENING, 'if answer.form in ("screening", "pads", "ears"):', 'if answer.form in ("screening", "ears"):', "SCREENING::test_every_yes_before_a_session_blocks_until_the_next_answer"),
    Patch("H13", SCREENING, '    if value_of(answer, "tingling") == 2:\n', "    if False:\n", "SCREENING::test_pain_tingling_and_flashes"),
    Patch("H15", "interlock/signed.py", "if prescription.patient != patient:", "if False:", "SIGNED::test_another_person"),
    Patch("H16", SCREENING, "elif form.before and newest is not None and not now_s - newest.t_s <= form.valid_s:", "elif False:", "SCREENING::test_missing_expired_and_future_answers_block"),
    Patch("H16", SCREENING, 'if answer.form == "screening" and item.id in CONTRAINDICATIONS:', "if False:", "SCREENING::test_a_new_contraindication_holds_until_a_clinicians_release"),
    Patch("H17", REFUSALS, "(c.halts == judge.halts, ", "(True, ", "JUDGE::test_a_stop_before_anything_was_armed_refuses_the_next_arm"),
    Patch("H17", "control/questions.py", "    if phase in (*LIVE, Phase.FALLBACK) or (flowed and", "    if phase in (*LIVE, Phase.FALLBACK) or (False and", "QUESTIONS::test_what_happened_can_be_said_after_a_stop_and_then_holds"),
    Patch("H18", SCREENING, "        if score(answer) >= MANIA_POSITIVE:\n", "        if False:\n", "SCREENING::test_scores_that_hold"),
    Patch("H19", "control/questions.py", "return Alert(finding, escalated(finding, raised_s, taken_s, now_s),", "return Alert(finding, 0,", "ANSWERS::test_an_alert_that_nobody_takes_goes_on_to_the_next_contact_and_says_so"),
    Patch("H19", "control/questions.py", "    return None if told and value_of(now, finding.item) <= max(told) else len(told)\n", "    return None if told else 0\n", "ANSWERS::test_what_has_become_worse_in_the_rest_of_a_form_is_told_anew_and_escalates_by_itself"),
    Patch("H20", SCREENING, '        if value_of(answer, "lesion"):\n', "        if False:\n", "SCREENING::test_scores_that_hold"),
    Patch("H23", JUDGE, "        if report.fault:\n            self._trip", "        if False:\n            self._trip", "TRIPS::test_device_fault_trips"),
    Patch("H23", SCREENING, *_YES_BLOCKS[:-1], "QUESTIONS::test_ears_are_asked_for_with_a_coil_and_an_unprotected_one_blocks"),
    Patch("H24", "dsp/pipeline.py", "elif gap > self._longest_bridge or self._restart or not first_is_clean:", "elif self._restart or not first_is_clean:", "PIPELINE::test_a_long_gap_or_a_new_segment_starts_the_filters_anew"),
    Patch("H26", "daemon/mqtt.py", '    if name.strip().lower() != "stop":\n', "    if False:\n", "MQTT::test_what_does_not"),
    Patch("H27", "daemon/web/access.py", 'if not hmac.compare_digest(proof, self._proof(f"{kind}.{issued_s}.{number}")):', "if False:", "ACCESS::test_no_single_changed_character_passes"),
    Patch("H28", "interlock/log.py", "if again.rstrip(b\"\\n\") != line or digest != body[\"hash\"]:", "if False:", "LOG::test_every_changed_byte_is_found"),
    Patch("H28", "daemon/trail_anchors.py", '            self.failing = f"{error.filename}: {error.strerror}"\n', "            pass\n", "ANCHORED::test_an_anchor_that_cannot_be_kept_is_said_until_it_can_and_stands_in_the_trail"),
    Patch("H28", "daemon/view.py", "    found: list[dict[str, Any]] = [*more]\n", "    found: list[dict[str, Any]] = []\n", "ANCHORED::test_what_is_wrong_with_the_anchors_stands_at_every_seat_in_view_and_names_no_path"),
    Patch("H30", REFUSALS, "    if isinstance(judge.start_code, str):\n        return", "    if False:\n        return", "CODE::test_without_a_code_no_home_session_begins"),
    Patch("H31", SCREENING, *_YES_BLOCKS),
    Patch("H33", SCREENING, *_YES_BLOCKS),
    Patch("H33", "control/watch.py", "or int(biomarkers.grades[column]) != Grade.GOOD:", "or True:", "WATCH::test_a_drowsy_persons_biomarkers_move_nothing"),
    Patch("H14", "dsp/signature.py", "    clear = (better >= BETTER) &", "    clear = (better < 0) &", "SIGNATURE::test_swapped_channels_are_refused_until_they_are_put_right"),
    Patch("H25", "control/questions.py", "    if not before or before[-1].digest == now.digest:\n", "    if True:\n", "COURSE::test_an_update_in_the_middle_of_a_course_waits_for_a_clinician"),
    Patch("H29", "control/wording.py", "    return WITHHELD if claims(text) else text\n", "    return text\n", "WORDING::test_what_would_be_too_much_is_found_and_withheld"),
    Patch("H32", "control/alarm_board.py", "if now_s - one.last_s <= FLICKER_S}", "if now_s - one.last_s < 0.5}", "BOARD::test_what_flickers_is_one_alarm_that_says_how_often_it_came_back"),
    Patch("H34", "dsp/pipeline.py", "                self._skip(stop - start, Code.STIMULATION, chunk, rows)\n", "                self._feed(data[:, start:stop], chunk, rows)\n", "PIPELINE::test_unclean_samples_are_never_looked_at"),
)  # fmt: skip
