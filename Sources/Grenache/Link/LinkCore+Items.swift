internal import GrenacheIO

extension LinkCore {
  func put(
    _ put: ItemPut, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> ItemTarget {
    let body = GrapeMessages.put(put.data, rid: UUIDText.random())
    // To store the same value twice does no harm; to repeat a mutable one would fail by its own number.
    let answer = try await ask(
      "/put", body, isRepeatable: put.sequence == nil, by: deadline, on: loop)
    switch try GrapeMessages.putAnswer(answer) {
    case .stored(let target):
      guard target == put.target else {
        throw GrenacheError(
          .grapeRefused, "the grape has stored \(put.target) as \(target), where nobody finds it")
      }
    case .nobodyElse:
      // A grape that knows no other: ours keep it themselves, and existing ones only what is immutable.
      let kept = try await get(put.target, salt: put.salt, by: deadline, on: loop)
      guard let kept, kept.signature?.sequence == put.sequence else {
        throw GrenacheError(.grapeRefused, "the grape knows no other node, and has not stored it")
      }
    }
    return put.target
  }

  func get(
    _ target: ItemTarget, salt: String, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> StoredItem? {
    let body = GrapeMessages.get(target, salt: salt, rid: UUIDText.random())
    let answer = try await ask("/get", body, by: deadline, on: loop)
    return answer.isEmpty ? nil : try StoredItem(answer, target: target, salt: salt)
  }
}
