/// Something that runs beside a test and says where it can be reached; it is cancelled with the last
/// reference to it.
package final class RunningTask<Place: Sendable>: Sendable {
  /// Where it can be reached.
  package let place: Place
  private let task: Task<Void, any Error>

  /// Returns once it has said where.
  ///
  /// - Throws: what it fails with before.
  package init(
    _ run: @escaping @Sendable (_ started: @escaping @Sendable (Place) -> Void) async throws -> Void
  ) async throws {
    let (places, starting) = AsyncThrowingStream.makeStream(of: Place.self)
    task = Task {
      do {
        try await run { starting.yield($0) }
        starting.finish()
      } catch {
        starting.finish(throwing: error)
        throw error
      }
    }
    var iterator = places.makeAsyncIterator()
    guard let place = try await iterator.next() else { throw CancellationError() }
    self.place = place
  }

  deinit { task.cancel() }

  /// Cancels it and waits for its end.
  package func stop() async {
    task.cancel()
    _ = try? await task.value
  }
}
