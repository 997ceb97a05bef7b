import GrenacheTransport
import Testing

@testable import Grenache

@Suite("The addresses of a publisher, in order")
struct PublisherAddressOrderTests {
  private func endpoint(_ number: UInt16) -> Endpoint { Endpoint(host: "10.0.0.1", port: number) }

  private func addresses(_ numbers: UInt16...) -> PublisherAddresses {
    var addresses = PublisherAddresses(endpoint(numbers[0]))
    addresses.add(numbers.dropFirst().map(endpoint))
    return addresses
  }

  private func numbers(_ addresses: PublisherAddresses) -> [UInt16] { addresses.all.map(\.port) }

  @Test("each is tried in its turn, and what is known is not added again")
  func turns() {
    var one = addresses(1)
    one.turnToNext()
    #expect(numbers(one) == [1])
    var some = addresses(1, 2, 3)
    some.add([endpoint(3), endpoint(1), endpoint(4)])
    #expect(numbers(some) == [1, 2, 3, 4])
    some.turnToNext()
    #expect(numbers(some) == [2, 3, 4, 1])
    #expect(some.current == endpoint(2))
  }

  @Test("the last one is not left, it is given up with the publisher")
  func leave() {
    var some = addresses(1, 2)
    let (left, last) = (some.leaveCurrent(), some.leaveCurrent())
    #expect(left && !last)
    #expect(numbers(some) == [2])
  }

  @Test("others are given up, those that are gone or all, and never the current one")
  func others() {
    var some = addresses(1, 2, 3, 4)
    let gone = some.removeOthers { $0.port != 3 }
    #expect(gone.map(\.port) == [2, 4] && numbers(some) == [1, 3])
    let rest = some.takeOthers()
    #expect(rest.map(\.port) == [3] && numbers(some) == [1])
  }
}
