/// A value of one loop's region in a place that any thread may hold.
///
/// Only code on that very loop gets at the value, which is checked.
package struct LoopBound<Value>: Sendable {
  package let loop: EventLoop
  private nonisolated(unsafe) let value: Value

  package init(_ value: Value, on loop: isolated EventLoop) {
    self.loop = loop
    unsafe self.value = value
  }

  /// The value; `loop` must be the loop that the value belongs to.
  @inline(__always)
  package func get(on loop: isolated EventLoop) -> Value {
    precondition(loop === self.loop, "a value of another event loop")
    return unsafe value
  }
}
