internal import GrenacheIO

extension Link {
  /// Stores a text as an immutable item (BEP 44), which anybody finds by its hash.
  ///
  /// The grape that stores it keeps it alive while it runs; without that, nodes keep it for a day (ours)
  /// or two hours (BEP 44).
  ///
  /// - Throws: `GrenacheError`: `invalidPayload` for a text of more than `StoredItem.valueBytesMax`
  ///   bytes; `grapeUnreachable`, `grapeRefused`, `notPermitted`, `deadlineExceeded`, `cancelled`.
  @discardableResult
  public func put(
    _ value: String, within timeout: Duration = .seconds(5)
  ) async throws(GrenacheError) -> ItemTarget {
    let put = try ItemPut(value)
    let core = core
    return try await Self.put(put, within: timeout, core: core, on: core.loop)
  }

  /// Stores a text as a mutable item (BEP 44): the key's owner may put another one in its place.
  ///
  /// A put that was sent and not answered is not repeated: `connectionLost` says that it may have been
  /// stored.
  ///
  /// - Parameters:
  ///   - value: the text.
  ///   - key: the owner's, with which it is signed.
  ///   - salt: tells items of one key from each other; up to `StoredItem.saltBytesMax` bytes.
  ///   - sequence: has to be greater than that of what is stored; from 0 to `StoredItem.sequenceMax`.
  ///   - compareAndSwap: put it only if what is stored has this sequence number.
  ///   - timeout: how long it may take.
  /// - Throws: `GrenacheError` as for immutable items, and `sequenceNotGreater`, `compareAndSwapFailed`.
  @discardableResult
  public func put(
    _ value: String, signedBy key: ItemKeyPair, salt: String = "", sequence: Int64,
    compareAndSwap: Int64? = nil, within timeout: Duration = .seconds(5)
  ) async throws(GrenacheError) -> ItemTarget {
    let put = try ItemPut(
      value, key: key, salt: salt, sequence: sequence, compareAndSwap: compareAndSwap)
    let core = core
    return try await Self.put(put, within: timeout, core: core, on: core.loop)
  }

  /// The item at `target`, checked against its hash or its signature: whoever sent it need not be
  /// trusted.
  ///
  /// - Parameters:
  ///   - target: where it is kept.
  ///   - salt: that of a mutable item that has one.
  ///   - timeout: how long it may take.
  /// - Returns: `nil` when nobody has it.
  /// - Throws: `GrenacheError`: `invalidItem` for one that is forged; `grapeUnreachable`,
  ///   `grapeRefused`, `notPermitted`, `deadlineExceeded`, `cancelled`.
  public func get(
    _ target: ItemTarget, salt: String = "", within timeout: Duration = .seconds(5)
  ) async throws(GrenacheError) -> StoredItem? {
    let core = core
    return try await Self.get(target, salt, within: timeout, core: core, on: core.loop)
  }

  private static func put(
    _ put: ItemPut, within timeout: Duration, core: LoopBound<LinkCore>,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> ItemTarget {
    try await core.get(on: loop).put(put, by: .now() + timeout, on: loop)
  }

  private static func get(
    _ target: ItemTarget, _ salt: String, within timeout: Duration, core: LoopBound<LinkCore>,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> StoredItem? {
    try await core.get(on: loop).get(target, salt: salt, by: .now() + timeout, on: loop)
  }
}

extension GrenacheError.Code {
  /// What the DHT has handed over is not what was asked for: its hash or its signature is wrong.
  public static let invalidItem = Self(name: "invalidItem", isRetryable: false)
  /// What is stored has the same or a greater sequence number: get it and put a greater one.
  public static let sequenceNotGreater = Self(name: "sequenceNotGreater", isRetryable: false)
  /// What is stored has not the sequence number that the put named: get it and decide anew.
  public static let compareAndSwapFailed = Self(name: "compareAndSwapFailed", isRetryable: false)
}
