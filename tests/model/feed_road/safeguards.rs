//! What the model can take out, one thing at a time, to see that the checker notices.

/// One rule that keeps the feed road safe or alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safeguard {
    /// A claim clears `settled` in the statement that reads it.
    ClaimClearsSettled,
    /// A write counts only under its own epoch.
    GuardEpoch,
    /// A write counts only while its sender owns the row.
    GuardOwner,
    /// A write counts only for the generation that it was meant for.
    GuardGeneration,
    /// A write counts only while the session is OPEN or SEALED.
    GuardState,
    /// An address counts only if it ends in the current generation's name.
    AddressOfThisGeneration,
    /// A new generation clears the row's address.
    NumberClearsAddress,
    /// A new generation clears the row's `fed`.
    NumberClearsFed,
    /// A new generation clears the row's `finish_sent_at`.
    NumberClearsFinish,
    /// A new generation writes the old one's name as a stray.
    NumberLeavesStray,
    /// A generation is written before its name is POSTed.
    NumberBeforeCreate,
    /// A name is POSTed once.
    NameOnce,
    /// A claimed row with `finish_sent_at` is watched first.
    WatchFirst,
    /// `finish_sent_at` is written before the finish is sent.
    MarkBeforeFinish,
    /// A finish of unknown outcome is watched: no strike, no other generation.
    UnknownFinishIsWatched,
    /// A finish of unknown outcome is not sent again.
    UnknownFinishIsNotRepeated,
    /// A process that was not there to delete is watched for a while more.
    GraceAfterDelete,
    /// Only evidence makes a strike.
    StrikeNeedsEvidence,
    /// `settled` is written only with nothing in doubt.
    SettledWithoutDoubt,
    /// `settled` is written only with an address.
    SettledWithAddress,
    /// A settled release takes back a finish that was not sent.
    SettledTakesFinishBack,
    /// After a release nothing more is sent under its epoch.
    ReleaseIsLast,
    /// A session that is mine while no feed of it runs here is claimed.
    MineWithoutFeed,
    /// A session whose owner died is claimed.
    DeadOwnersAreReplaced,
    /// A feed that paused goes on only if the row is still its own.
    PausedFeedsCompare,
    /// Nothing is said to fflow without a valid lease.
    LeaseBeforeSpeaking,
    /// A write of unknown outcome is read again.
    UnknownWriteIsRead,
    /// A read that follows an unknown write asks who owns the row.
    ReadAsksForTheOwner,
    /// A fenced feed leaves the process that it has just created as a stray.
    FencedLeavesStray,
    /// FAILED leaves its process as a stray.
    ParkLeavesStray,
    /// EXPIRED leaves its process as a stray.
    ExpiryLeavesStray,
    /// An expiry raises the epoch.
    ExpiryRaisesEpoch,
    /// An expiry takes the owner away.
    ExpiryClearsOwner,
    /// An idle process that is dropped is no longer settled.
    IdleDropUnsettles,
}
