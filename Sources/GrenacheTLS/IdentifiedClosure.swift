/// A closure that is equal only to itself, so that a configuration which holds one can be compared.
final class IdentifiedClosure<Input, Output>: Hashable, Sendable {
  private let body: @Sendable (Input) -> Output

  init(_ body: @escaping @Sendable (Input) -> Output) { self.body = body }

  func callAsFunction(_ input: Input) -> Output { body(input) }

  static func == (left: IdentifiedClosure, right: IdentifiedClosure) -> Bool { left === right }

  func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(self)) }
}
